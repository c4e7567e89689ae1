//! Passes requests for models with upstreams on, and their answers back.

mod relay;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sanctum_config::fleet::PrefixCacheScope;

use super::body::{JsonBody, PREFIX_SCOPE};
use super::error::ApiError;
use super::prefix_scope;
use super::state::AppState;
use crate::client_key::ClientKey;
use crate::front::{Attempt, Fallback, FrontModel, ModelField, Upstream, UpstreamResponse};
use crate::gate::GenerationRecord;
use crate::route::{self, Route};

/// The client for whom this server asks. Only a server that lists this one among its `auth.fronts` believes it.
pub(crate) const CLIENT: HeaderName = HeaderName::from_static("sanctum-client");
/// The id of the request, in both servers' logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// When a client should try again where no upstream says it, in seconds.
const RETRY_AFTER: u64 = 5;
/// Servers of this project through which a request may pass.
const MOST_HOPS: usize = 4;
/// What precedes the id of such a server in `Via`.
const HOP: &str = "sanctum-";

/// The routes whose requests are passed on.
const FORWARDED: [&str; 8] = [
    route::CHAT,
    route::COMPLETIONS,
    route::RESPONSES,
    route::MESSAGES,
    route::COUNT_TOKENS,
    route::TOKENIZE,
    route::DETOKENIZE,
    route::APPLY_TEMPLATE,
];

/// Passes a request on if its model has upstreams, after this server if it has the model too.
pub(crate) async fn forward(
    State(app): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Response {
    let matched = Route::of(&request).path;
    let route = FORWARDED.into_iter().find(|route| *route == matched);
    let (Some(route), Method::POST) = (route, request.method().clone()) else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let read = match JsonBody::from_request(whole, &app).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let (bytes, size) = (read.bytes.clone(), read.bytes.len());
    let find = move |_: &_| ModelField::find(&bytes);
    let field = match app.preparing.run(read.owner.clone(), size, find).await {
        Ok(found) => found,
        Err(panicked) => return ApiError::internal(panicked.to_string()).into_response(),
    };
    // The handler takes the body that was read from the extensions.
    let local = |read: JsonBody| {
        let mut request = Request::from_parts(parts.clone(), Body::empty());
        request.extensions_mut().insert(read);
        request
    };
    let found = field.and_then(|field| Some((app.fronts.find(field.name.as_deref())?, field)));
    let Some((model, field)) = found else {
        return next.run(local(read)).await;
    };
    let via = Via::of(&parts.headers, app.fronts.id());
    if model.is_local {
        let response = next.run(local(read.clone())).await;
        let is_passed_on = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if via.is_loop || !is_passed_on.contains(&response.status()) {
            return response;
        }
    }
    let Some(record) = parts.extensions.get::<GenerationRecord>().cloned() else {
        return ApiError::internal("the request has no record").into_response();
    };
    record.model(model.id.as_str());
    if via.is_loop {
        return ApiError::new(StatusCode::LOOP_DETECTED, "upstream_loop", LOOP).into_response();
    }
    let forwarding = Forwarding {
        app: &app,
        model,
        path: route,
        headers: headers(&app, &parts.headers, &read, record.request_id(), via.header),
        field,
        body: read.bytes.clone(),
    };
    let outcome = tokio::select! {
        outcome = forwarding.try_all() => outcome,
        () = app.shutdown.cancelled() => Err(ApiError::shutting_down()),
    };
    drop(read);
    match outcome {
        Ok((name, answer)) => {
            record.served_by(&name);
            relay::relay(name, answer, route, record, app.shutdown.clone())
        }
        Err(error) => error.into_response(),
    }
}

/// The error of a request that has come back to this server.
const LOOP: &str = "the request has passed through this server before: its upstreams pass requests on to each other; remove one of \
                    the `upstreams` from fleet.toml";

/// Through which of our servers a request has come.
struct Via {
    /// It has come through this one already, or through too many.
    is_loop: bool,
    /// The header for the next one.
    header: Option<HeaderValue>,
}

impl Via {
    fn of(headers: &HeaderMap, own: &str) -> Self {
        let values = headers.get_all(header::VIA).into_iter();
        let hops = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|hop| hop.split_ascii_whitespace().nth(1)?.strip_prefix(HOP));
        let hops: Vec<&str> = hops.collect();
        let sent = hops.iter().chain([&own]);
        let sent: Vec<String> = sent.map(|id| format!("1.1 {HOP}{id}")).collect();
        Self {
            is_loop: hops.contains(&own) || hops.len() >= MOST_HOPS,
            header: HeaderValue::from_str(&sent.join(", ")).ok(),
        }
    }
}

/// A request on its way to the upstreams of its model.
struct Forwarding<'a> {
    app: &'a AppState,
    model: &'a FrontModel,
    path: &'static str,
    headers: HeaderMap,
    field: ModelField,
    body: Bytes,
}

/// What was found while one upstream after the other was asked.
#[derive(Default)]
struct Problems {
    /// Of each upstream.
    all: Vec<String>,
    /// When to try again, if one is full.
    full: Option<u64>,
    /// The error if one refuses this server's credentials.
    denied: Option<ApiError>,
    /// Upstreams that have answered 500.
    broke: usize,
}

impl Forwarding<'_> {
    /// Asks one upstream after the other. Returns the name of the first that answers, and its answer.
    async fn try_all(self) -> Result<(String, UpstreamResponse), ApiError> {
        let mut problems = Problems::default();
        let mut on_trial = Vec::new();
        for (number, upstream) in self.model.upstreams.iter().enumerate() {
            let fallback = match number + 1 < self.model.upstreams.len() {
                true => Fallback::Next,
                false => Fallback::Last,
            };
            match self.attempt(upstream, fallback).await {
                Attempt::Skipped { on_trial: true, .. } => on_trial.push(upstream),
                attempt => {
                    if let Some(answer) = problems.take(self.model, upstream, attempt) {
                        return Ok((upstream.spec.name.clone(), answer));
                    }
                }
            }
        }
        // Rather than none, those are asked of which another request shows just now whether they work.
        for upstream in on_trial {
            let attempt = self.attempt(upstream, Fallback::Nowhere).await;
            if let Some(answer) = problems.take(self.model, upstream, attempt) {
                return Ok((upstream.spec.name.clone(), answer));
            }
        }
        Err(problems.into_error(self.model))
    }

    async fn attempt(&self, upstream: &Arc<Upstream>, fallback: Fallback) -> Attempt {
        let spec = &upstream.spec;
        let id = spec.model.as_deref().unwrap_or(self.model.id.as_str());
        let body = self.field.replaced(&self.body, id);
        let headers = self.headers.clone();
        let attempt = upstream.attempt(self.path, headers, &body, fallback).await;
        let outcome = match &attempt {
            Attempt::Answer(_) => "answered",
            Attempt::Denied(_) => "denied",
            Attempt::Full(..) => "full",
            // It is asked again.
            Attempt::Skipped { on_trial: true, .. } if fallback != Fallback::Nowhere => {
                return attempt;
            }
            Attempt::Skipped { .. } => "skipped",
            Attempt::Broke(_) | Attempt::Failed(_) => "failed",
        };
        self.app
            .metrics
            .upstream_request(self.model.id.as_str(), &spec.name, outcome);
        attempt
    }
}

impl Problems {
    /// The answer, or what is wrong is noted.
    fn take(
        &mut self,
        model: &FrontModel,
        upstream: &Upstream,
        attempt: Attempt,
    ) -> Option<UpstreamResponse> {
        let name = &upstream.spec.name;
        let problem = match attempt {
            Attempt::Answer(answer) => return Some(answer),
            Attempt::Denied(status) => {
                let message = format!(
                    "the upstream {name} does not accept this server's credentials ({status}); check `token_file`, or \
                     `certificate` and `key`, of this upstream in fleet.toml"
                );
                tracing::error!(upstream = %name, url = %upstream.spec.base, model = %model.id, "{message}");
                let error = ApiError::new(StatusCode::BAD_GATEWAY, "upstream_denied", message);
                self.denied.get_or_insert(error);
                format!("it does not accept this server's credentials ({status})")
            }
            Attempt::Full(problem, after) => {
                let after = after.unwrap_or(RETRY_AFTER);
                self.full = Some(self.full.map_or(after, |other| other.min(after)));
                problem
            }
            Attempt::Broke(problem) => {
                self.broke += 1;
                problem
            }
            Attempt::Skipped { problem, .. } | Attempt::Failed(problem) => problem,
        };
        tracing::debug!(upstream = %name, problem, "the next upstream is tried");
        self.all.push(format!("{name}: {problem}"));
        None
    }

    fn into_error(self, model: &FrontModel) -> ApiError {
        let problems = self.all.join("; ");
        let id = &model.id;
        if let Some(after) = self.full {
            let message = format!("no server has room for another request for {id}: {problems}");
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
            return error.with_retry_after(after);
        }
        if let Some(denied) = self.denied {
            return denied;
        }
        if self.broke == self.all.len() {
            let message =
                format!("every server that has {id} has failed with this request: {problems}");
            return ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", message);
        }
        let message = format!("no server that has {id} answers: {problems}");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        ApiError::new(status, "upstreams_unavailable", message).with_retry_after(RETRY_AFTER)
    }
}

/// What an upstream must know of a request's head. Credentials of the client stay here.
fn headers(
    app: &AppState,
    from: &HeaderMap,
    body: &JsonBody,
    id: &str,
    via: Option<HeaderValue>,
) -> HeaderMap {
    const PASSED: [&str; 4] = [
        "accept",
        "anthropic-version",
        "anthropic-beta",
        "user-agent",
    ];
    let passed = PASSED
        .into_iter()
        .filter_map(|name| Some((HeaderName::from_static(name), from.get(name)?.clone())));
    let mut headers: HeaderMap = passed.collect();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let client: &ClientKey = body.owner.client();
    let part = body.prefix_scope.as_ref().map(HeaderValue::as_bytes);
    // Always this server's own: a client that sends one must not get that of another client.
    let scope = match (app.sharing, part) {
        (PrefixCacheScope::Shared, None) => None,
        (_, part) => Some(prefix_scope::of_client(
            app.fronts.scope_key(),
            client,
            part,
        )),
    };
    let own = [
        (header::VIA, via),
        (REQUEST_ID, HeaderValue::from_str(id).ok()),
        (CLIENT, HeaderValue::from_str(&client.to_string()).ok()),
        (
            PREFIX_SCOPE,
            scope.and_then(|scope| HeaderValue::from_str(&scope).ok()),
        ),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    headers.extend(own);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_that_comes_back_is_a_loop_and_other_proxies_are_none() {
        let via = |value: &str, own: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::VIA, HeaderValue::from_str(value).unwrap());
            Via::of(&headers, own)
        };
        let first = Via::of(&HeaderMap::new(), "a");
        assert!(!first.is_loop);
        let sent = first.header.unwrap();
        assert_eq!(sent, "1.1 sanctum-a");
        let second = via(sent.to_str().unwrap(), "b");
        assert!(!second.is_loop);
        let sent = second.header.unwrap();
        assert!(via(sent.to_str().unwrap(), "a").is_loop);
        assert!(via(sent.to_str().unwrap(), "b").is_loop);
        assert!(!via("1.1 a, 1.0 proxy (sanctum-a)", "a").is_loop);
        assert!(
            via(
                "1.1 sanctum-b, 1.1 sanctum-c, 1.1 sanctum-d,1.1 sanctum-e",
                "a"
            )
            .is_loop
        );
    }
}
