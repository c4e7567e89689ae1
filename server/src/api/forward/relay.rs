//! Passes an upstream's answer on to the client, piece by piece.

use std::io;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::protocol::Failure;
use crate::api::{anthropic, responses};
use crate::front::{
    AnswerCopy, EventProtocol, InFlight, ReportedUsage, UpstreamResponse, WholeEvents,
    is_event_stream, retry_after,
};
use crate::gate::GenerationRecord;
use crate::shutdown::Shutdown;

/// The upstream that has answered.
const SERVED_BY: HeaderName = HeaderName::from_static("sanctum-served-by");
/// The headers of an upstream that clients get.
const PASSED: [&str; 3] = ["content-type", "cache-control", "sanctum-ignored-fields"];

/// An answer on its way to the client.
struct Relay {
    answer: UpstreamResponse,
    /// None where the answer is no stream of events.
    events: Option<(WholeEvents, EventProtocol)>,
    /// What has passed of an answer that is none.
    copy: AnswerCopy,
    /// When something came of it.
    last: Instant,
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

/// The response with an upstream's answer. `route`: what was asked.
pub(super) fn relay(
    name: String,
    answer: UpstreamResponse,
    route: &str,
    record: GenerationRecord,
    shutdown: Shutdown,
) -> Response {
    let status = answer.response.status();
    let headers = answer.response.headers();
    let protocol = EventProtocol::of(route);
    let events = is_event_stream(headers).then(|| (WholeEvents::new(protocol), protocol));
    let passed = headers
        .iter()
        .filter(|(name, _)| PASSED.contains(&name.as_str()));
    let passed: Vec<_> = passed
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let retry_after = retry_after(headers);
    let served_by = HeaderValue::from_str(&name);
    let relay = Relay {
        events,
        copy: AnswerCopy::default(),
        answer,
        last: Instant::now(),
        name,
        record,
        shutdown,
        is_done: false,
    };
    let body = stream::unfold(relay, async |mut relay| Some((relay.next().await?, relay)));
    let mut response = (status, Body::from_stream(body)).into_response();
    response.headers_mut().extend(passed);
    if !status.is_success() {
        response
            .extensions_mut()
            .insert(ErrorCode("refused_by_upstream"));
    }
    if let Some(seconds) = retry_after {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
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
                (Ok(Some(piece)), Some((events, _))) => {
                    let whole = events.push(&piece);
                    report(&self.record, events.usage());
                    whole
                }
                (Ok(Some(piece)), None) => {
                    self.copy.push(&piece);
                    piece
                }
                (Ok(None), Some((events, _))) => {
                    let rest = events.finish();
                    report(&self.record, events.usage());
                    let Some(rest) = rest else {
                        let why = "ended its answer before it was complete".to_owned();
                        return Some(self.broken(Break::Upstream(why)));
                    };
                    self.is_done = true;
                    rest
                }
                (Ok(None), None) => {
                    report(&self.record, self.copy.usage());
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
                Ok(piece) => {
                    self.last = Instant::now();
                    Ok(piece.map(|piece| piece.to_vec()))
                }
                Err(_) => Err(Break::Upstream("broke the connection off".to_owned())),
            },
            () = InFlight::lost(in_flight, self.last) => Err(Break::Upstream("no longer answers".to_owned())),
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
            Some((events, protocol)) => {
                let event = [events.separator(), &error_event(*protocol, &error)].concat();
                Ok(event.into())
            }
            None => Err(io::Error::other(error.to_string())),
        }
    }
}

/// Notes the tokens that an upstream has reported.
fn report(record: &GenerationRecord, usage: ReportedUsage) {
    if usage != ReportedUsage::default() {
        record.reported(usage.prompt_tokens, usage.completion_tokens);
    }
}

/// An error as an event of this protocol.
fn error_event(protocol: EventProtocol, error: &ApiError) -> String {
    let message = error.to_string();
    match protocol {
        EventProtocol::OpenAi => format!("data: {}\n\n", error.body()),
        EventProtocol::Responses => {
            let code = responses::failure_code(Failure::of(error).kind);
            let data = json!({ "type": "error", "code": code, "message": message, "param": null });
            format!("event: error\ndata: {data}\n\n")
        }
        EventProtocol::Anthropic => {
            let kind = anthropic::failure_type(Failure::of(error).kind);
            let error = json!({ "type": kind, "message": message });
            let data = json!({ "type": "error", "error": error });
            format!("event: error\ndata: {data}\n\n")
        }
    }
}
