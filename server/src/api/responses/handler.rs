//! `POST /v1/responses`, and the responses that are kept.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;

use super::{ResponseEncoder, ResponsesRequest, deletion_answer, translate};
use crate::api::body::JsonBody;
use crate::api::error::ApiError;
use crate::api::generation;
use crate::api::path_id::PathId;
use crate::api::protocol::{self, AnswerEncoder, AnswerEnd, Failure, ReplyPart, Sse};
use crate::api::response_store::ResponseStore;
use crate::api::state::AppState;
use crate::client_key::ClientKey;
use crate::gate::GenerationRecord;
use crate::{random, unix_time};

/// Answers `POST /v1/responses`.
pub(crate) async fn create(
    State(app): State<Arc<AppState>>,
    Extension(record): Extension<GenerationRecord>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let owner = ResponseStore::owner(body.owner.client());
    let store = app.responses.clone();
    let parse = move |body: &[u8]| {
        let (request, names, (echo, turn)) = protocol::parse(body, |map| {
            let now = Instant::now();
            let mut recall = |id: &str| store.with(|store| store.recall(&owner, id, now));
            let ResponsesRequest {
                translated,
                echo,
                pending,
            } = translate(map, &mut recall)?;
            Ok((translated, (echo, pending)))
        })?;
        let stream = request.parameters.stream.is_some();
        let pending = turn.map(|turn| store.pending(owner, turn));
        Ok((request.named(names), (echo, pending, stream)))
    };
    let started = generation::start(&app, record, body, parse).await;
    let (generation, (echo, pending, stream)) = started?;
    let model = &generation.model().id;
    let encoder = ResponseEncoder::new(echo, model, unix_time::now(), &mut random::id);
    protocol::respond(generation, encoder, stream, pending).await
}

impl AnswerEncoder for ResponseEncoder {
    fn opening(&mut self) -> Vec<Sse> {
        self.opening()
    }

    fn part(&mut self, part: ReplyPart) -> Vec<Sse> {
        self.event(part)
    }

    fn end(&mut self, end: AnswerEnd) -> Vec<Sse> {
        self.end(end)
    }

    fn failure(&mut self, failure: Failure) -> Vec<Sse> {
        self.failure(failure)
    }

    fn keep_alive(&mut self) -> Sse {
        self.keep_alive()
    }

    fn answer(&self) -> Value {
        self.response()
    }
}

/// Answers `GET /v1/responses/{id}`.
pub(crate) async fn read(
    State(app): State<Arc<AppState>>,
    Extension(client): Extension<ClientKey>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let now = Instant::now();
    let found = app.responses.with(|store| {
        store
            .response(&ResponseStore::owner(&client), &id, now)
            .cloned()
    });
    match found {
        Some(response) => Ok(Json(response).into_response()),
        None => Err(not_found()),
    }
}

/// Answers `DELETE /v1/responses/{id}`.
pub(crate) async fn delete(
    State(app): State<Arc<AppState>>,
    Extension(client): Extension<ClientKey>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let now = Instant::now();
    match app
        .responses
        .with(|store| store.delete(&ResponseStore::owner(&client), &id, now))
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
