//! `POST /v1/responses`, and the responses that are kept.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use sanctum_engine::schedule::{TokenLogprob, Usage};

use super::{Echo, ResponseEncoder, ResponsesRequest, deletion_answer, translate};
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::generation::{self, ActiveGeneration, GenerationEnd, GenerationOutput};
use crate::api::protocol::{self, End, Failure, ReplyPart, Sse};
use crate::api::response_store::{PendingTurn, ResponseStore};
use crate::api::sse::{self, StreamEvent};
use crate::api::state::AppState;
use crate::client_key::ClientKey;
use crate::gate::GenerationRecord;
use crate::{random, unix_time};

/// What remains to be done when a response is complete.
struct Pending {
    store: ResponseStore,
    owner: String,
    turn: Option<PendingTurn>,
}

impl Pending {
    /// Keeps the response, unless the client asked for the opposite.
    fn keep(&mut self, encoder: &ResponseEncoder) {
        if let Some(turn) = self.turn.take() {
            let response = encoder.response();
            let now = Instant::now();
            self.store
                .with(|store| store.insert(&self.owner, turn, response, now));
        }
    }
}

/// Answers `POST /v1/responses`.
pub(crate) async fn create(
    State(app): State<Arc<AppState>>,
    Extension(record): Extension<GenerationRecord>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let owner = key(body.owner.client());
    let store = app.responses.clone();
    let (recalled, whose) = (store.clone(), owner.clone());
    let parse = move |body: &[u8]| {
        let (request, names, (echo, turn)) = protocol::parse(body, |map| {
            let now = Instant::now();
            let mut recall = |id: &str| recalled.with(|store| store.recall(&whose, id, now));
            let ResponsesRequest {
                translated,
                echo,
                pending,
            } = translate(map, &mut recall)?;
            Ok((translated, (echo, pending)))
        })?;
        let stream = request.parameters.stream.is_some();
        Ok((request.named(names), (echo, turn, stream)))
    };
    let started = generation::start(&app, record, body, parse).await;
    let (mut generation, (echo, turn, stream)) = started?;
    let ignored = generation.take_ignored();
    let pending = Pending { store, owner, turn };
    let encoder = encoder(echo, &generation);
    let mut response = match stream {
        true => sse::stream(generation, Stream { encoder, pending }),
        false => whole(generation, encoder, pending).await?,
    };
    ActiveGeneration::report_ignored(&ignored, &mut response);
    Ok(response)
}

/// A client, as the store names it.
fn key(client: &ClientKey) -> String {
    format!("{client:?}")
}

fn encoder(echo: Echo, generation: &ActiveGeneration) -> ResponseEncoder {
    let model = &generation.model().id;
    ResponseEncoder::new(echo, model, unix_time::now(), &mut random::id)
}

/// The whole response, once the generation has ended.
async fn whole(
    mut generation: ActiveGeneration,
    mut encoder: ResponseEncoder,
    mut pending: Pending,
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
                pending.keep(&encoder);
                return Ok(Json(encoder.response()).into_response());
            }
        }
    }
}

/// Encodes a streamed response.
struct Stream {
    encoder: ResponseEncoder,
    pending: Pending,
}

impl Stream {
    fn parts(&mut self, parts: Vec<ReplyPart>) -> Vec<StreamEvent> {
        let events = parts.into_iter().flat_map(|part| self.encoder.event(part));
        events.map(StreamEvent::from).collect()
    }
}

impl From<Sse> for StreamEvent {
    fn from(event: Sse) -> Self {
        Self::Named(event.event, event.data.to_string())
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
        self.pending.keep(&self.encoder);
        events
    }

    fn failure(&mut self, error: &ApiError) -> Vec<StreamEvent> {
        let events = self.encoder.failure(Failure::of(error));
        events.into_iter().map(StreamEvent::from).collect()
    }

    fn keep_alive(&mut self) -> StreamEvent {
        // Codex counts events only: a comment would not keep it waiting.
        self.encoder.keep_alive().into()
    }
}

/// Answers `GET /v1/responses/{id}`.
pub(crate) async fn read(
    State(app): State<Arc<AppState>>,
    Extension(client): Extension<ClientKey>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let now = Instant::now();
    let found = app
        .responses
        .with(|store| store.response(&key(&client), &id, now).cloned());
    match found {
        Some(response) => Ok(Json(response).into_response()),
        None => Err(not_found()),
    }
}

/// Answers `DELETE /v1/responses/{id}`.
pub(crate) async fn delete(
    State(app): State<Arc<AppState>>,
    Extension(client): Extension<ClientKey>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let now = Instant::now();
    match app
        .responses
        .with(|store| store.delete(&key(&client), &id, now))
    {
        true => Ok(Json(deletion_answer(&id)).into_response()),
        false => Err(not_found()),
    }
}

fn not_found() -> ApiError {
    let message =
        "there is no such response: it was not stored, it has expired, or it is another client's";
    ApiError::new(StatusCode::NOT_FOUND, "response_not_found", message)
}
