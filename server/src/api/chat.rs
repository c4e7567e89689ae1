//! `POST /v1/chat/completions`.
//!
//! `reasoning_content` is the name that Qwen's and other open models' servers agreed on.

mod message;
mod request;

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use sanctum_engine::schedule::TokenLogprob;
use sanctum_engine::text::Text;
use serde::Serialize;
use serde_json::Value;

use self::message::{AssistantMessage, Delta};
#[cfg(any(test, fuzzing))]
pub(crate) use self::request::parse;
pub(crate) use self::request::parse_fields;
use super::body::JsonBody;
use super::error::ApiError;
use super::generation::{self, ActiveGeneration, GenerationEnd, GenerationOutput, GenerationUsage};
use super::openai::{Completion, CompletionHead, finish_reason, logprobs_later};
use super::reply::ReplyPart;
use super::sse::StreamEvent;
use super::state::AppState;
use super::{logprobs, openai, sse};
use crate::gate::GenerationRecord;

/// A whole chat completion.
#[derive(Clone, Debug, Serialize)]
struct ChatChoice {
    /// Which choice, from 0.
    index: usize,
    message: AssistantMessage,
    /// Null unless asked for.
    logprobs: Option<Value>,
    finish_reason: &'static str,
}

/// A chunk of a chat completion.
#[derive(Clone, Debug, Serialize)]
struct ChatChunkChoice {
    /// Which choice, from 0.
    index: usize,
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
    let (mut generation, (stream, has_logprobs)) =
        generation::start(&app, record, body, parse).await?;
    let ignored = generation.take_ignored();
    let Some(stream) = stream else {
        let mut response = whole(generation, has_logprobs).await?;
        ActiveGeneration::report_ignored(&ignored, &mut response);
        return Ok(response);
    };
    let encoder = ChatEncoder {
        head: CompletionHead::new("chatcmpl-", "chat.completion.chunk", generation.model()),
        text: generation.text().clone(),
        logprobs: vec![has_logprobs.then(Vec::new); generation.choices()],
        include_usage: stream.include_usage,
    };
    let mut response = sse::stream(generation, encoder);
    ActiveGeneration::report_ignored(&ignored, &mut response);
    Ok(response)
}

/// The whole completion, once all choices have ended. All tokens have their log probabilities, those of reasoning, calls
/// and held back text included.
async fn whole(mut generation: ActiveGeneration, has_logprobs: bool) -> Result<Response, ApiError> {
    let head = CompletionHead::new("chatcmpl-", "chat.completion", generation.model());
    let mut choices = vec![(AssistantMessage::default(), Vec::new(), None); generation.choices()];
    loop {
        match generation.next().await? {
            GenerationOutput::Prompt { .. } => {}
            GenerationOutput::Token {
                choice,
                parts,
                logprob,
            } => {
                let (message, logprobs, _) = &mut choices[choice];
                message.extend(parts);
                logprobs.extend(logprob);
            }
            GenerationOutput::Finished {
                choice,
                parts,
                end,
                usage,
                ..
            } => {
                let (message, _, ended) = &mut choices[choice];
                message.extend(parts);
                *ended = Some(end);
                let Some(usage) = usage else { continue };
                let (mut whole, mut written) = (Vec::new(), Vec::new());
                for (index, (message, tokens, end)) in choices.into_iter().enumerate() {
                    let end = end.unwrap_or(GenerationEnd::Stop);
                    whole.push(ChatChoice {
                        index,
                        message: message.complete(&end),
                        logprobs: has_logprobs.then(logprobs_later),
                        finish_reason: finish_reason(&end),
                    });
                    if has_logprobs {
                        let tokens = logprobs::KeptTokens::new(tokens, generation.kept(index));
                        written.push(logprobs::chat_parts(tokens, generation.text().clone()));
                    }
                }
                return Ok(Completion::whole(&head, whole, usage).response(written));
            }
        }
    }
}

/// Encodes the chunks of a streamed completion.
struct ChatEncoder {
    head: CompletionHead,
    text: Text,
    /// The log probabilities of each choice that were not sent yet, if they were asked for.
    logprobs: Vec<Option<Vec<TokenLogprob>>>,
    include_usage: bool,
}

impl ChatEncoder {
    fn chunk(
        &self,
        index: usize,
        delta: Delta,
        logprobs: Option<Value>,
        end: Option<GenerationEnd>,
    ) -> String {
        let choice = ChatChunkChoice {
            index,
            delta,
            logprobs,
            finish_reason: end.as_ref().map(finish_reason),
        };
        Completion::chunk(&self.head, choice, self.include_usage)
    }

    /// A chunk for each part, the first with the log probabilities that are waiting. Where there is no part, they have a
    /// chunk of their own.
    fn chunks(&mut self, index: usize, parts: Vec<ReplyPart>) -> Vec<String> {
        let waiting = self.logprobs[index].as_mut().map(std::mem::take);
        let waiting = waiting.filter(|tokens| !tokens.is_empty());
        let mut logprobs = waiting.map(|tokens| logprobs::chat(&tokens, &self.text));
        // The end of a call has no delta of its own.
        let deltas = parts.into_iter().map(Delta::from);
        let mut deltas: Vec<Delta> = deltas.filter(|delta| *delta != Delta::default()).collect();
        if deltas.is_empty() && logprobs.is_some() {
            deltas.push(Delta::default());
        }
        let deltas = deltas.into_iter();
        deltas
            .map(|delta| self.chunk(index, delta, logprobs.take(), None))
            .collect()
    }
}

impl sse::Encoder for ChatEncoder {
    fn opening(&mut self) -> Vec<StreamEvent> {
        let choices = 0..self.logprobs.len();
        let opening = choices.map(|index| self.chunk(index, Delta::opening(), None, None));
        openai::events(opening.collect())
    }

    fn token(
        &mut self,
        choice: usize,
        parts: Vec<ReplyPart>,
        logprob: Option<TokenLogprob>,
    ) -> Vec<StreamEvent> {
        if let Some(logprobs) = &mut self.logprobs[choice] {
            logprobs.extend(logprob);
        }
        openai::events(self.chunks(choice, parts))
    }

    fn closing(
        &mut self,
        choice: usize,
        parts: Vec<ReplyPart>,
        end: GenerationEnd,
        usage: Option<GenerationUsage>,
    ) -> Vec<StreamEvent> {
        let mut chunks = self.chunks(choice, parts);
        chunks.push(self.chunk(choice, Delta::default(), None, Some(end)));
        openai::closing(chunks, usage, |usage| {
            self.include_usage
                .then(|| Completion::<ChatChunkChoice>::usage(&self.head, usage))
        })
    }

    fn failure(&mut self, error: &ApiError) -> Vec<StreamEvent> {
        openai::failure(error)
    }
}
