//! `POST /v1/chat/completions`.
//!
//! `reasoning_content` is the name that Qwen's and other open models' servers agreed on.

mod message;
mod request;

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use sanctum_engine::schedule::{TokenLogprob, Usage};
use sanctum_engine::text::Text;
use serde::Serialize;
use serde_json::Value;

use self::message::{AssistantMessage, Delta};
#[cfg(any(test, fuzzing))]
pub(crate) use self::request::parse;
use super::body::JsonBody;
use super::error::ApiError;
use super::generation::{self, ActiveGeneration, GenerationEnd, GenerationOutput};
use super::openai::{Completion, CompletionHead, finish_reason, logprobs_later};
use super::reply::ReplyPart;
use super::state::AppState;
use super::{logprobs, sse};
use crate::gate::GenerationRecord;

/// A whole chat completion.
#[derive(Clone, Debug, Serialize)]
struct ChatChoice {
    /// Always 0.
    index: u32,
    message: AssistantMessage,
    /// Null unless asked for.
    logprobs: Option<Value>,
    finish_reason: &'static str,
}

/// A chunk of a chat completion.
#[derive(Clone, Debug, Serialize)]
struct ChatChunkChoice {
    /// Always 0.
    index: u32,
    delta: Delta,
    /// Null unless asked for.
    logprobs: Option<Value>,
    /// Null until the last chunk.
    finish_reason: Option<&'static str>,
}

/// Answers `POST /v1/chat/completions`.
pub(crate) async fn create(
    State(app): State<Arc<AppState>>,
    Extension(record): Extension<GenerationRecord>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let parse = |body: &[u8]| {
        let request = request::parse(body)?;
        let shape = (request.parameters.stream, request.logprobs.is_some());
        Ok((request, shape))
    };
    let (generation, (stream, has_logprobs)) = generation::start(&app, record, body, parse).await?;
    let logprobs = has_logprobs.then(Vec::new);
    let Some(stream) = stream else {
        return whole(generation, logprobs).await;
    };
    let encoder = ChatEncoder {
        head: CompletionHead::new("chatcmpl-", "chat.completion.chunk", generation.model()),
        text: generation.text().clone(),
        logprobs,
        include_usage: stream.include_usage,
    };
    Ok(sse::stream(generation, encoder))
}

/// The whole completion, once the generation has ended. All tokens have their log probabilities, those of reasoning, calls
/// and held back text included.
async fn whole(
    mut generation: ActiveGeneration,
    mut logprobs: Option<Vec<TokenLogprob>>,
) -> Result<Response, ApiError> {
    let head = CompletionHead::new("chatcmpl-", "chat.completion", generation.model());
    let mut message = AssistantMessage::default();
    loop {
        match generation.next().await? {
            GenerationOutput::Token { parts, logprob } => {
                message.extend(parts);
                if let Some(logprobs) = &mut logprobs {
                    logprobs.extend(logprob);
                }
            }
            GenerationOutput::Finished { parts, end, usage } => {
                message.extend(parts);
                let choice = ChatChoice {
                    index: 0,
                    message: message.complete(),
                    logprobs: logprobs.is_some().then(logprobs_later),
                    finish_reason: finish_reason(end),
                };
                let parts = logprobs.map(|tokens| {
                    let tokens = logprobs::KeptTokens::new(tokens, generation.kept());
                    logprobs::chat_parts(tokens, generation.text().clone())
                });
                return Ok(Completion::whole(&head, choice, usage).response(parts));
            }
        }
    }
}

/// Encodes the chunks of a streamed completion.
struct ChatEncoder {
    head: CompletionHead,
    text: Text,
    /// The log probabilities that were not sent yet, if they were asked for.
    logprobs: Option<Vec<TokenLogprob>>,
    include_usage: bool,
}

impl ChatEncoder {
    fn chunk(&self, delta: Delta, logprobs: Option<Value>, end: Option<GenerationEnd>) -> String {
        let choice = ChatChunkChoice {
            index: 0,
            delta,
            logprobs,
            finish_reason: end.map(finish_reason),
        };
        Completion::chunk(&self.head, choice, self.include_usage)
    }

    /// A chunk for each part, the first with the log probabilities that are waiting. Where there is no part, they have a
    /// chunk of their own.
    fn chunks(&mut self, parts: Vec<ReplyPart>) -> Vec<String> {
        let waiting = self.logprobs.as_mut().map(std::mem::take);
        let waiting = waiting.filter(|tokens| !tokens.is_empty());
        let mut logprobs = waiting.map(|tokens| logprobs::chat(&tokens, &self.text));
        let mut deltas: Vec<Delta> = parts.into_iter().map(Delta::from).collect();
        if deltas.is_empty() && logprobs.is_some() {
            deltas.push(Delta::default());
        }
        let deltas = deltas.into_iter();
        deltas
            .map(|delta| self.chunk(delta, logprobs.take(), None))
            .collect()
    }
}

impl sse::Encoder for ChatEncoder {
    fn opening(&mut self) -> Vec<String> {
        vec![self.chunk(Delta::opening(), None, None)]
    }

    fn token(&mut self, parts: Vec<ReplyPart>, logprob: Option<TokenLogprob>) -> Vec<String> {
        if let Some(logprobs) = &mut self.logprobs {
            logprobs.extend(logprob);
        }
        self.chunks(parts)
    }

    fn closing(&mut self, parts: Vec<ReplyPart>, end: GenerationEnd, usage: Usage) -> Vec<String> {
        let mut chunks = self.chunks(parts);
        chunks.push(self.chunk(Delta::default(), None, Some(end)));
        if self.include_usage {
            chunks.push(Completion::<ChatChunkChoice>::usage(&self.head, usage));
        }
        chunks
    }
}
