//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Map, Value};

use super::{MessageEncoder, count_answer, threads, translate, translate_count};
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::generation;
use crate::api::protocol::{self, AnswerEncoder, AnswerEnd, Failure, ReplyPart, Sse};
use crate::api::response_store::ResponseStore;
use crate::api::state::AppState;
use crate::gate::GenerationRecord;
use crate::random;

/// Answers `POST /v1/messages`.
pub(crate) async fn create(
    State(app): State<Arc<AppState>>,
    Extension(record): Extension<GenerationRecord>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let owner = ResponseStore::owner(body.owner.client());
    let store = app.threads.clone();
    let parse = move |body: &[u8]| {
        let (request, names, thread) = protocol::parse(body, |mut map| {
            let now = Instant::now();
            let recall = |id: &str| {
                store.with(|store| {
                    let last = store.response(&owner, id, now)?.clone();
                    Some((store.recall(&owner, id, now)?, last))
                })
            };
            let thread = threads::resume(&mut map, recall)?;
            Ok((translate(map)?, thread))
        })?;
        let stream = request.parameters.stream.is_some();
        let (pending, inherited) = match thread {
            Some(thread) => (Some(store.pending(owner, thread.turn)), thread.inherited),
            None => (None, Map::new()),
        };
        Ok((request.named(names), (stream, pending, inherited)))
    };
    let started = generation::start(&app, record, body, parse).await;
    let (generation, (stream, pending, inherited)) = started?;
    let model = &generation.model().id;
    let encoder = MessageEncoder::new(model, generation.prompt_tokens(), 0, &mut random::id);
    let encoder = ThreadEncoder { encoder, inherited };
    protocol::respond(generation, encoder, stream, pending).await
}

/// Answers `POST /v1/messages/count_tokens`.
pub(crate) async fn count(
    State(app): State<Arc<AppState>>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let parse = |body: &[u8]| {
        let (request, names, ()) = protocol::parse(body, |map| Ok((translate_count(map)?, ())))?;
        Ok(request.named(names))
    };
    let tokens = generation::count(&app, body, parse).await?;
    Ok(Json(count_answer(tokens)).into_response())
}

/// Encodes a message, and what its thread keeps of it.
struct ThreadEncoder {
    encoder: MessageEncoder,
    inherited: Map<String, Value>,
}

impl AnswerEncoder for ThreadEncoder {
    fn opening(&mut self) -> Vec<Sse> {
        self.encoder.opening()
    }

    fn part(&mut self, part: ReplyPart) -> Vec<Sse> {
        self.encoder.event(part)
    }

    fn end(&mut self, end: AnswerEnd) -> Vec<Sse> {
        self.encoder.end(end)
    }

    fn failure(&mut self, failure: Failure) -> Vec<Sse> {
        self.encoder.failure(failure)
    }

    fn keep_alive(&mut self) -> Sse {
        self.encoder.keep_alive()
    }

    fn answer(&self) -> Value {
        self.encoder.message()
    }

    fn kept(&self) -> Value {
        threads::kept(&self.encoder.message(), self.inherited.clone())
    }
}
