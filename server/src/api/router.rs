//! The routes, and the gate around them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::error::{ApiError, ErrorCode};
use super::state::AppState;
use super::{
    adapters, anthropic, chat, completions, console, cors, forward, health, models, responses,
    status, tokens,
};
use crate::gate::{Admitted, Gate};
use crate::route;
use crate::tracked_body::TrackedBody;

/// Every response has the id under which the audit log knows the request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All routes, behind the gate. A listener puts a [`Peer`](crate::peer::Peer) into each request.
pub(crate) fn router(app: Arc<AppState>) -> Router {
    let forwards = !app.fronts.is_empty();
    let routes: [(&str, MethodRouter<Arc<AppState>>); 20] = [
        (route::CHAT, post(chat::create)),
        (route::COMPLETIONS, post(completions::create)),
        (route::RESPONSES, post(responses::create)),
        (
            route::RESPONSE,
            get(responses::read).delete(responses::delete),
        ),
        (route::MESSAGES, post(anthropic::create)),
        (route::COUNT_TOKENS, post(anthropic::count)),
        (route::TOKENIZE, post(tokens::tokenize)),
        (route::DETOKENIZE, post(tokens::detokenize)),
        (route::APPLY_TEMPLATE, post(tokens::apply_template)),
        (route::TOKENIZER_INFO, get(tokens::info)),
        (route::ADAPTERS, get(adapters::list).post(adapters::swap)),
        (route::MODELS, get(models::list)),
        (route::MODEL, get(models::one)),
        (route::HEALTH, get(health::health)),
        (route::METRICS, get(metrics)),
        (route::STATUS, get(status::status)),
        (route::CONSOLE, get(console::page)),
        (route::CONSOLE_STYLE, get(console::style)),
        (route::CONSOLE_SCRIPT, get(console::script)),
        (route::CONSOLE_ICON, get(console::icon)),
    ];
    let routes = routes
        .into_iter()
        .fold(
            Router::new(),
            |router, (path, methods)| match route::unversioned(path) {
                Some(short) => router.route(short, methods.clone()).route(path, methods),
                None => router.route(path, methods),
            },
        )
        .fallback(no_route)
        .method_not_allowed_fallback(no_method);
    let routes = match forwards {
        true => routes.layer(middleware::from_fn_with_state(
            app.clone(),
            forward::forward,
        )),
        false => routes,
    };
    routes
        .layer(middleware::from_fn_with_state(app.gate.clone(), guard))
        .with_state(app)
}

/// Passes accepted requests on, with their [`ClientKey`](crate::client_key::ClientKey) and
/// [`GenerationRecord`](crate::gate::GenerationRecord) in their extensions, and answers the others. The response carries the
/// record of the request to its end, and tells a browser whether the page may read it.
pub(crate) async fn guard(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let (mut record, admitted) = gate.admit(&request);
    let reader = gate.origins().reader(request.headers());
    let is_anthropic = route::is_anthropic(request.uri().path());
    let mut response = match admitted {
        Ok(Admitted::Client(client)) => {
            request.extensions_mut().insert(client);
            request.extensions_mut().insert(record.generation());
            next.run(request).await
        }
        Ok(Admitted::Public) => next.run(request).await,
        Ok(Admitted::Preflight) => cors::preflight(request.headers()),
        Err(refusal) => refusal.into_response(),
    };
    if is_anthropic {
        response = anthropic::shape(response, record.id());
    }
    cors::finish(gate.origins(), reader, response.headers_mut());
    let code = response.extensions().get().map(|ErrorCode(code)| *code);
    record.responded(response.status(), code);
    if let Ok(id) = HeaderValue::from_str(record.id()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.map(|body| Body::new(TrackedBody::new(body, record)))
}

async fn metrics(State(app): State<Arc<AppState>>) -> impl IntoResponse {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let page = app
        .metrics
        .render(&app.models, &app.fronts, &app.preparing.read());
    ([(header::CONTENT_TYPE, text)], page)
}

async fn no_route(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let message = format!(
        "there is nothing at {method} {path}; see GET /v1/models, POST /v1/chat/completions"
    );
    ApiError::new(StatusCode::NOT_FOUND, "unknown_url", message)
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let message = format!("{path} does not support {method}; see the Allow header");
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    )
}
