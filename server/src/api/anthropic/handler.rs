//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use sanctum_engine::schedule::{TokenLogprob, Usage};

use super::{MessageEncoder, count_answer, error_body, translate, translate_count};
use crate::api::body::JsonBody;
use crate::api::client_path::Path;
use crate::api::error::ApiError;
use crate::api::generation::{self, ActiveGeneration, GenerationEnd, GenerationOutput};
use crate::api::message_threads::PendingThread;
use crate::api::protocol::{self, End, Failure, Refusal, ReplyPart};
use crate::api::sse::{self, StreamEvent};
use crate::api::state::AppState;
use crate::gate::GenerationRecord;
use crate::random;

/// An error in Anthropic's shape.
pub(crate) struct MessagesError(ApiError);

impl From<ApiError> for MessagesError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for MessagesError {
    fn into_response(self) -> Response {
        let id = random::id("req_");
        let body = error_body(self.0.status().as_u16(), &self.0.to_string(), &id);
        let (parts, _) = self.0.into_response().into_parts();
        let mut response = Json(body).into_response();
        *response.status_mut() = parts.status;
        for (name, value) in &parts.headers {
            // The length and type are those of the other body.
            if !name.as_str().starts_with("content-") {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}

/// Answers `POST /v1/messages`.
pub(crate) async fn create(
    State(app): State<Arc<AppState>>,
    Extension(record): Extension<GenerationRecord>,
    body: Result<JsonBody, ApiError>,
) -> Result<Response, MessagesError> {
    let body = body?;
    let owner = format!("{:?}", body.owner.client());
    let threads = app.threads.clone();
    let parse = move |body: &[u8]| {
        let (request, names, pending) = protocol::parse(body, |mut map| {
            let pending = threads.resume(&owner, &mut map);
            let pending =
                pending.map_err(|error| Refusal::new(&Path::root("thread"), error.to_string()))?;
            Ok((translate(map)?, pending))
        })?;
        let stream = request.parameters.stream.is_some();
        Ok((request.named(names), (stream, pending)))
    };
    let started = generation::start(&app, record, body, parse).await;
    let (mut generation, (stream, pending)) = started?;
    let ignored = generation.take_ignored();
    let model = generation.model().id.clone();
    let encoder = MessageEncoder::new(&model, generation.prompt_tokens(), 0, &mut random::id);
    let mut response = match stream {
        true => sse::stream(generation, Stream { encoder, pending }),
        false => whole(generation, encoder, pending).await?,
    };
    ActiveGeneration::report_ignored(&ignored, &mut response);
    Ok(response)
}

/// The whole message, once the generation has ended.
async fn whole(
    mut generation: ActiveGeneration,
    mut encoder: MessageEncoder,
    pending: Option<PendingThread>,
) -> Result<Response, ApiError> {
    loop {
        match generation.next().await? {
            GenerationOutput::Token { parts, .. } => parts.into_iter().for_each(|part| {
                encoder.event(part);
            }),
            GenerationOutput::Finished {
                parts, end, usage, ..
            } => {
                parts.into_iter().for_each(|part| {
                    encoder.event(part);
                });
                encoder.end(End::of(end, usage.unwrap_or_default()));
                let message = encoder.message();
                if let Some(pending) = pending {
                    pending.keep(&message);
                }
                return Ok(Json(message).into_response());
            }
        }
    }
}

/// Encodes a streamed message.
struct Stream {
    encoder: MessageEncoder,
    pending: Option<PendingThread>,
}

impl Stream {
    fn parts(&mut self, parts: Vec<ReplyPart>) -> Vec<StreamEvent> {
        let events = parts.into_iter().flat_map(|part| self.encoder.event(part));
        events.map(StreamEvent::from).collect()
    }
}

impl sse::Encoder for Stream {
    fn opening(&mut self) -> Vec<StreamEvent> {
        self.encoder
            .opening()
            .into_iter()
            .map(StreamEvent::from)
            .collect()
    }

    fn token(
        &mut self,
        _choice: usize,
        parts: Vec<ReplyPart>,
        _logprob: Option<TokenLogprob>,
    ) -> Vec<StreamEvent> {
        self.parts(parts)
    }

    fn closing(
        &mut self,
        _choice: usize,
        parts: Vec<ReplyPart>,
        end: GenerationEnd,
        usage: Option<Usage>,
    ) -> Vec<StreamEvent> {
        let mut events = self.parts(parts);
        let end = self.encoder.end(End::of(end, usage.unwrap_or_default()));
        events.extend(end.into_iter().map(StreamEvent::from));
        if let Some(pending) = self.pending.take() {
            pending.keep(&self.encoder.message());
        }
        events
    }

    fn failure(&mut self, error: &ApiError) -> Vec<StreamEvent> {
        let events = self.encoder.failure(Failure::of(error));
        events.into_iter().map(StreamEvent::from).collect()
    }

    fn keep_alive(&mut self) -> StreamEvent {
        self.encoder.keep_alive().into()
    }
}

/// Answers `POST /v1/messages/count_tokens`.
pub(crate) async fn count(
    State(app): State<Arc<AppState>>,
    body: Result<JsonBody, ApiError>,
) -> Result<Response, MessagesError> {
    let parse = |body: &[u8]| {
        let (request, names, ()) = protocol::parse(body, |map| Ok((translate_count(map)?, ())))?;
        Ok(request.named(names))
    };
    let tokens = generation::count(&app, body?, parse).await?;
    Ok(Json(count_answer(tokens)).into_response())
}
