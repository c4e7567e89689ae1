//! From a generation to a protocol's answer, plain or streamed, by the protocol's own state machine.

use axum::Json;
use axum::response::{IntoResponse, Response};
use sanctum_engine::schedule::TokenLogprob;
use serde_json::Value;

use super::{AnswerEnd, Failure, ReplyPart, Sse};
use crate::api::error::ApiError;
use crate::api::generation::{ActiveGeneration, GenerationEnd, GenerationOutput, GenerationUsage};
use crate::api::response_store::PendingAnswer;
use crate::api::sse::{self, StreamEvent};

/// The state machine of a protocol: parts of the reply in, events out.
pub(crate) trait AnswerEncoder: Send + 'static {
    /// Before the first part.
    fn opening(&mut self) -> Vec<Sse>;
    /// For a part.
    fn part(&mut self, part: ReplyPart) -> Vec<Sse>;
    /// At the end.
    fn end(&mut self, end: AnswerEnd) -> Vec<Sse>;
    /// Instead of the rest, after an error.
    fn failure(&mut self, failure: Failure) -> Vec<Sse>;
    /// While nothing happens. Codex counts events only: a comment would not keep it waiting.
    fn keep_alive(&mut self) -> Sse;
    /// The plain answer, complete after [`AnswerEncoder::end`].
    fn answer(&self) -> Value;
    /// What is kept of the answer for a request that continues it.
    fn kept(&self) -> Value {
        self.answer()
    }
}

/// Answers with a generation, and keeps the answer where the client may continue it.
///
/// # Errors
/// If the generation of a plain answer fails. A stream ends with the protocol's error event instead.
pub(crate) async fn respond(
    mut generation: ActiveGeneration,
    encoder: impl AnswerEncoder,
    stream: bool,
    pending: Option<PendingAnswer>,
) -> Result<Response, ApiError> {
    let ignored = generation.take_ignored();
    let answer = EncodedAnswer { encoder, pending };
    let mut response = match stream {
        true => sse::stream(generation, answer),
        false => answer.plain(generation).await?,
    };
    ActiveGeneration::report_ignored(&ignored, &mut response);
    Ok(response)
}

struct EncodedAnswer<E> {
    encoder: E,
    pending: Option<PendingAnswer>,
}

impl<E: AnswerEncoder> EncodedAnswer<E> {
    fn parts(&mut self, parts: Vec<ReplyPart>) -> Vec<StreamEvent> {
        let events = parts.into_iter().flat_map(|part| self.encoder.part(part));
        events.map(StreamEvent::from).collect()
    }

    fn end(
        &mut self,
        parts: Vec<ReplyPart>,
        end: GenerationEnd,
        usage: Option<GenerationUsage>,
    ) -> Vec<StreamEvent> {
        let mut events = self.parts(parts);
        let end = AnswerEnd::of(end, usage.unwrap_or_default());
        events.extend(self.encoder.end(end).into_iter().map(StreamEvent::from));
        if let Some(pending) = self.pending.take() {
            pending.keep(self.encoder.kept());
        }
        events
    }

    async fn plain(mut self, mut generation: ActiveGeneration) -> Result<Response, ApiError> {
        loop {
            match generation.next().await? {
                GenerationOutput::Prompt { .. } => {}
                GenerationOutput::Token { parts, .. } => drop(self.parts(parts)),
                GenerationOutput::Finished {
                    parts, end, usage, ..
                } => {
                    self.end(parts, end, usage);
                    return Ok(Json(self.encoder.answer()).into_response());
                }
            }
        }
    }
}

impl<E: AnswerEncoder> sse::Encoder for EncodedAnswer<E> {
    fn opening(&mut self) -> Vec<StreamEvent> {
        let events = self.encoder.opening().into_iter();
        events.map(StreamEvent::from).collect()
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
        usage: Option<GenerationUsage>,
    ) -> Vec<StreamEvent> {
        self.end(parts, end, usage)
    }

    fn failure(&mut self, error: &ApiError) -> Vec<StreamEvent> {
        let events = self.encoder.failure(Failure::of(error)).into_iter();
        events.map(StreamEvent::from).collect()
    }

    fn keep_alive(&mut self) -> StreamEvent {
        self.encoder.keep_alive().into()
    }
}

impl From<Sse> for StreamEvent {
    fn from(event: Sse) -> Self {
        Self::Named(event.event, event.data.to_string())
    }
}
