//! Passes requests for models with upstreams on, and their answers back.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

use super::body::JsonBody;
use super::error::ApiError;
use super::state::AppState;
use crate::client_key::ClientKey;
use crate::front::{Attempt, FrontModel, InFlight, ModelField, UpstreamResponse, WholeEvents};
use crate::gate::GenerationRecord;
use crate::route::{self, Route};
use crate::shutdown::Shutdown;

/// The upstream that has answered.
const SERVED_BY: HeaderName = HeaderName::from_static("sanctum-served-by");
/// The client for whom this server asks. Only a server that lists this one among its `auth.fronts` believes it.
pub(crate) const CLIENT: HeaderName = HeaderName::from_static("sanctum-client");
/// The id of the request, in both servers' logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// When a client should try again where no upstream says it, in seconds.
const RETRY_AFTER: u64 = 5;

/// How a protocol reports an error in a stream that has begun.
#[derive(Clone, Copy)]
enum ErrorEvent {
    OpenAi,
    Responses,
    Anthropic,
}

/// Passes a request on if its model has upstreams, after this server if it has the model too.
pub(crate) async fn forward(
    State(app): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Response {
    let matched = Route::of(&request);
    if request.method() != Method::POST
        || ["none", route::ADAPTERS].contains(&matched.path.as_str())
    {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let JsonBody {
        bytes,
        owner,
        memory,
    } = match JsonBody::from_request(whole, &app).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let size = bytes.len();
    let find = move |_: &_| (ModelField::find(&bytes), bytes);
    let (field, bytes) = match app.preparing.run(owner, size, find).await {
        Ok(found) => found,
        Err(panicked) => return ApiError::internal(panicked.to_string()).into_response(),
    };
    let bytes = Bytes::from(bytes);
    let local = |bytes: Bytes| Request::from_parts(parts.clone(), Body::from(bytes));
    let found = field.and_then(|field| Some((app.fronts.find(field.name.as_deref())?, field)));
    let Some((model, field)) = found else {
        drop(memory);
        return next.run(local(bytes)).await;
    };
    if model.is_local {
        let response = next.run(local(bytes.clone())).await;
        let is_passed_on = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if !is_passed_on.contains(&response.status()) {
            return response;
        }
    }
    let Some(record) = parts.extensions.get::<GenerationRecord>().cloned() else {
        return ApiError::internal("the request has no record").into_response();
    };
    record.model(model.id.as_str());
    let client = parts.extensions.get::<ClientKey>();
    let headers = headers(&parts.headers, client, record.request_id());
    let path = path(&parts.uri);
    let outcome = try_all(&app, model, &field, &path, &headers, &bytes).await;
    drop(memory);
    match outcome {
        Ok((name, answer)) => {
            record.served_by(&name);
            let events = ErrorEvent::of(&path);
            relay(name, answer, events, record, app.shutdown.clone())
        }
        Err(error) => error.into_response(),
    }
}

/// Asks one upstream after the other. Returns the name of the first that answers, and its answer.
async fn try_all(
    app: &AppState,
    model: &FrontModel,
    field: &ModelField,
    path: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(String, UpstreamResponse), ApiError> {
    let mut problems = Vec::new();
    let mut full: Option<u64> = None;
    for upstream in &model.upstreams {
        let spec = &upstream.spec;
        let body = match &spec.model {
            Some(name) => field.replaced(body, name),
            None => field.replaced(body, model.id.as_str()),
        };
        let attempt = upstream.attempt(path, headers.clone(), body).await;
        let (outcome, problem) = match attempt {
            Attempt::Answer(answer) => {
                app.metrics
                    .upstream_request(model.id.as_str(), &spec.name, "answered");
                return Ok((spec.name.clone(), answer));
            }
            Attempt::Denied(status) => {
                app.metrics
                    .upstream_request(model.id.as_str(), &spec.name, "denied");
                let message = format!(
                    "the upstream {} does not accept this server's credentials ({status}); check `token_file`, or \
                     `certificate` and `key`, of this upstream in fleet.toml",
                    spec.name
                );
                tracing::error!(upstream = %spec.name, url = %spec.base, "{message}");
                return Err(ApiError::new(
                    StatusCode::BAD_GATEWAY,
                    "upstream_denied",
                    message,
                ));
            }
            Attempt::Full(after) => {
                let after = after.unwrap_or(RETRY_AFTER);
                full = Some(full.map_or(after, |other| other.min(after)));
                ("full", "its queue is full".to_owned())
            }
            Attempt::Skipped(problem) => ("skipped", problem),
            Attempt::Failed(problem) => ("failed", problem),
        };
        app.metrics
            .upstream_request(model.id.as_str(), &spec.name, outcome);
        tracing::debug!(upstream = %spec.name, outcome, problem, "the next upstream is tried");
        problems.push(format!("{}: {problem}", spec.name));
    }
    let problems = problems.join("; ");
    if let Some(after) = full {
        let message = format!(
            "no server has room for another request for {}: {problems}",
            model.id
        );
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
        return Err(error.with_retry_after(after));
    }
    let message = format!("no server that has {} answers: {problems}", model.id);
    let error = ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "upstreams_unavailable",
        message,
    );
    Err(error.with_retry_after(RETRY_AFTER))
}

/// The path there, with its query.
fn path(uri: &axum::http::Uri) -> String {
    let path = uri.path();
    let version = match path.starts_with("/v1/") {
        true => "",
        false => "/v1",
    };
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("{version}{path}{query}")
}

/// What an upstream must know of a request's head. Credentials of the client stay here.
fn headers(from: &HeaderMap, client: Option<&ClientKey>, id: &str) -> HeaderMap {
    const PASSED: [&str; 4] = [
        "accept",
        "anthropic-version",
        "anthropic-beta",
        "user-agent",
    ];
    let mut headers = HeaderMap::new();
    for name in PASSED {
        if let Some(value) = from.get(name) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(Ok(client)) = client.map(|client| HeaderValue::from_str(&client.to_string())) {
        headers.insert(CLIENT, client);
    }
    headers
}

/// An answer on its way to the client.
struct Relay {
    answer: UpstreamResponse,
    /// None where the answer is no stream of events.
    events: Option<(WholeEvents, ErrorEvent)>,
    name: String,
    record: GenerationRecord,
    shutdown: Shutdown,
    is_done: bool,
}

/// What ends a relay before the answer is complete.
enum Break {
    Upstream(String),
    Shutdown,
}

fn relay(
    name: String,
    answer: UpstreamResponse,
    event: ErrorEvent,
    record: GenerationRecord,
    shutdown: Shutdown,
) -> Response {
    let status = answer.response.status();
    let headers = answer.response.headers();
    let kind = headers.get(header::CONTENT_TYPE);
    let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let is_passed = |name: &HeaderName| {
        [
            header::CONTENT_TYPE,
            header::CACHE_CONTROL,
            header::RETRY_AFTER,
        ]
        .contains(name)
            || name.as_str().starts_with("sanctum-")
    };
    let passed = headers.iter().filter(|(name, _)| is_passed(name));
    let passed: Vec<_> = passed
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let served_by = HeaderValue::from_str(&name);
    let relay = Relay {
        events: is_stream.then(|| (WholeEvents::default(), event)),
        answer,
        name,
        record,
        shutdown,
        is_done: false,
    };
    let body = stream::unfold(relay, async |mut relay| Some((relay.next().await?, relay)));
    let mut response = (status, Body::from_stream(body)).into_response();
    response.headers_mut().extend(passed);
    if let Ok(name) = served_by {
        response.headers_mut().insert(SERVED_BY, name);
    }
    response
}

impl Relay {
    /// The next piece; none at the end. An error breaks the connection off.
    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        while !self.is_done {
            let piece = match self.answer.first.take() {
                Some(first) => Ok(Some(first)),
                None => self.piece().await,
            };
            let piece = match (piece, &mut self.events) {
                (Ok(Some(piece)), Some((events, _))) => events.push(&piece),
                (Ok(Some(piece)), None) => piece,
                (Ok(None), Some((events, _))) => {
                    self.is_done = true;
                    events.finish()
                }
                (Ok(None), None) => {
                    self.is_done = true;
                    return None;
                }
                (Err(why), _) => return Some(self.broken(why)),
            };
            if !piece.is_empty() {
                return Some(Ok(piece.into()));
            }
        }
        None
    }

    async fn piece(&mut self) -> Result<Option<Vec<u8>>, Break> {
        let UpstreamResponse {
            response,
            in_flight,
            ..
        } = &mut self.answer;
        tokio::select! {
            piece = response.chunk() => match piece {
                Ok(piece) => Ok(piece.map(|piece| piece.to_vec())),
                Err(_) => Err(Break::Upstream("broke the connection off".to_owned())),
            },
            () = InFlight::gone(in_flight) => Err(Break::Upstream("no longer answers".to_owned())),
            () = self.shutdown.cancelled() => Err(Break::Shutdown),
        }
    }

    fn broken(&mut self, why: Break) -> Result<Bytes, io::Error> {
        self.is_done = true;
        let error = match why {
            Break::Shutdown => {
                self.record.cancelled();
                ApiError::shutting_down()
            }
            Break::Upstream(why) => {
                self.record.failed();
                let message = format!(
                    "the upstream {} {why} in the middle of the answer; send the request again",
                    self.name
                );
                tracing::warn!(upstream = %self.name, request = self.record.request_id(), "{message}");
                ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", message)
            }
        };
        match &self.events {
            Some((_, event)) => Ok(event.of_error(&error).into()),
            None => Err(io::Error::other(error.to_string())),
        }
    }
}

impl ErrorEvent {
    /// The form of the protocol at a path.
    fn of(path: &str) -> Self {
        match path.split('?').next() {
            Some(route::RESPONSES) => Self::Responses,
            Some(route::MESSAGES) => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }

    fn of_error(self, error: &ApiError) -> String {
        let message = error.to_string();
        match self {
            Self::OpenAi => format!("data: {}\n\n", error.body()),
            Self::Responses => {
                let data = json!({ "type": "error", "code": "server_error", "message": message, "param": null });
                format!("event: error\ndata: {data}\n\n")
            }
            Self::Anthropic => {
                let error = json!({ "type": "api_error", "message": message });
                format!(
                    "event: error\ndata: {}\n\n",
                    json!({ "type": "error", "error": error })
                )
            }
        }
    }
}
