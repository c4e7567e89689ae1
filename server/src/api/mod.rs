//! The HTTP face: OpenAI's API, and two pages for operators.
//!
//! A request's way: the gate lets it in, [`body`] takes the bytes, [`fields`] takes them apart, `chat` or `completions` makes a prompt of
//! them, [`running`] hands it to the engine, and the answer leaves whole or through [`sse`]. Whatever goes wrong on
//! the way is an [`ApiError`].

mod adapters;
mod answer;
mod body;
mod bounded;
mod chat;
mod chat_request;
mod completions;
mod error;
mod fields;
mod health;
mod listing;
mod logprobs;
mod messages;
mod parameters;
mod running;
mod sse;
#[cfg(any(test, fuzzing))]
pub mod surface;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sanctum_engine::text::TokenizerError;

use body::JsonBody;
pub use error::{ApiError, error_body};
pub use wire::now;

use crate::gate::{Gate, guard};
use crate::metrics::Metrics;
use crate::models::{Models, Ready};
use crate::prepare::{Preparing, Ticket};
use crate::route::{self, Route};
use crate::shutdown::Shutdown;
use crate::swaps::Swaps;

/// What all requests share.
pub struct App {
    /// What is served.
    pub models: Models,
    /// How their adapters are swapped.
    pub swaps: Swaps,
    /// How requests are made ready for an engine.
    pub preparing: Preparing,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// When it ends.
    pub shutdown: Shutdown,
    /// Who is let in.
    pub gate: Arc<Gate>,
}

/// All routes behind the gate. Whoever listens puts a [`Peer`](crate::peer::Peer) into each request.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(route::CHAT, post(chat::create))
        .route(route::COMPLETIONS, post(completions::create))
        .route(route::ADAPTERS, get(adapters::list).post(adapters::swap))
        .route("/v1/models", get(listing::list))
        // Ids may look like `Qwen/Qwen3.5-27B`.
        .route("/v1/models/{*id}", get(listing::one))
        .route(route::HEALTH, get(health::health))
        .route(route::METRICS, get(metrics))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(app.gate.clone(), guard))
        // Outermost, so that what is refused is counted as well.
        .layer(middleware::from_fn_with_state(app.clone(), count))
        .with_state(app)
}

/// Prepares a request when it is its client's turn: `work` makes of its body what the engine is asked.
async fn prepare<T: Send + 'static>(
    app: &App,
    body: JsonBody,
    work: impl FnOnce(&[u8], &Ticket) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let JsonBody { bytes, owner, held } = body;
    let size = bytes.len();
    let work = move |ticket: &Ticket| {
        let result = work(&bytes, ticket);
        drop((bytes, held));
        result
    };
    app.preparing
        .run(owner, size, work)
        .await
        .unwrap_or_else(|panicked| Err(ApiError::Engine(panicked.to_string())))
}

/// The tokens of a prompt. One that does not fit is refused as soon as that is certain.
fn tokens(prompt: &str, field: &str, ready: &Ready, ticket: &Ticket) -> Result<Vec<u32>, ApiError> {
    let context = ready.engine.limits().context;
    // One token at least is left for the answer.
    let most = context.saturating_sub(1);
    let tokenizer = &ready.engine.text().tokenizer;
    tokenizer
        .encode_within(prompt, most, || ticket.goes_on())
        .map_err(|error| match error {
            TokenizerError::TooLong { at_least } => ApiError::Invalid {
                param: Some(field.to_owned()),
                message: format!(
                    "the prompt has at least {at_least} tokens and the context holds {context}; shorten the prompt (one \
                     token at least is left for the answer)"
                ),
                code: Some("context_length_exceeded"),
            },
            error => ApiError::invalid(field, error.to_string()),
        })
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, text)],
        app.metrics.render(&app.models, &app.preparing.read()),
    )
}

async fn no_route(method: Method, uri: Uri) -> ApiError {
    ApiError::RouteNotFound {
        method: method.to_string(),
        path: uri.path().to_owned(),
    }
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed {
        method: method.to_string(),
        path: uri.path().to_owned(),
    }
}

/// Counts every answer under the route that it matched, not under its path: paths are without number.
async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = Route::of(&request);
    let response = next.run(request).await;
    app.metrics
        .request(route.method, &route.path, response.status().as_u16());
    response
}
