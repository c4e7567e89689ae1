//! The objects that OpenAI's clients expect, shared by chat and text completions.
//!
//! Source of the shapes: OpenAI's API reference, "Chat" and "Completions (legacy)".

use std::convert::Infallible;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;

use super::error::ApiError;
use super::generation::{GenerationEnd, GenerationUsage, ModelInfo};
use super::sse::StreamEvent;
use crate::random;
use crate::unix_time;

/// A field whose value is written part by part: see [`Completion::response`].
const LOGPROBS_LATER: &str = r#""logprobs":{}"#;

/// The fields with which every completion and every chunk of one begins.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CompletionHead {
    /// The same for all chunks of a completion.
    id: String,
    /// `chat.completion`, `chat.completion.chunk` or `text_completion`.
    object: &'static str,
    /// Unix time in seconds.
    created: u64,
    /// The model that answers.
    model: String,
    /// The weights and the arithmetic that answer.
    system_fingerprint: String,
}

/// A completion or a chunk of one.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Completion<'a, Choice> {
    #[serde(flatten)]
    head: &'a CompletionHead,
    /// One choice; none in the chunk that carries the usage.
    choices: Vec<Choice>,
    /// Absent, null or present: a stream that will send the usage in its last chunk has null in all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageBody>>,
}

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Serialize)]
struct UsageBody {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokensDetails,
    completion_tokens_details: CompletionTokensDetails,
}

/// Of the tokens out.
#[derive(Clone, Copy, Debug, Serialize)]
struct CompletionTokensDetails {
    /// Those of the reasoning, with the end of it.
    reasoning_tokens: usize,
}

/// Of the tokens in.
#[derive(Clone, Copy, Debug, Serialize)]
struct PromptTokensDetails {
    /// Those that were not computed, because a computed prefix was reused.
    cached_tokens: usize,
}

impl CompletionHead {
    /// The head of a new completion, whose id begins with `prefix`.
    pub(crate) fn new(prefix: &str, object: &'static str, model: &ModelInfo) -> Self {
        Self {
            id: random::id(prefix),
            object,
            created: unix_time::now(),
            model: model.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
        }
    }
}

impl<'a, Choice: Serialize> Completion<'a, Choice> {
    /// A whole completion.
    pub(crate) fn whole(
        head: &'a CompletionHead,
        choices: Vec<Choice>,
        usage: GenerationUsage,
    ) -> Self {
        Self {
            head,
            choices,
            usage: Some(Some(usage.into())),
        }
    }

    /// A chunk, as text; `include_usage` if the usage will follow in a chunk of its own.
    pub(crate) fn chunk(head: &'a CompletionHead, choice: Choice, include_usage: bool) -> String {
        let usage = include_usage.then_some(None);
        Self {
            head,
            choices: vec![choice],
            usage,
        }
        .text()
    }

    /// The chunk that carries the usage, as text.
    pub(crate) fn usage(head: &'a CompletionHead, usage: GenerationUsage) -> String {
        Self {
            head,
            choices: Vec::new(),
            usage: Some(Some(usage.into())),
        }
        .text()
    }

    /// The response of a whole completion. `logprobs` are the texts that replace [`logprobs_later`] in its choices, in their
    /// order, made part by part while they are sent.
    pub(crate) fn response<I>(&self, logprobs: Vec<I>) -> Response
    where
        I: Iterator<Item = String> + Send + 'static,
    {
        let text = self.text();
        let kind = [(header::CONTENT_TYPE, "application/json")];
        if logprobs.is_empty() {
            return (kind, text).into_response();
        }
        // A quotation mark within a string is escaped, so that this is the field itself.
        let mut pieces: Vec<String> = text.split(LOGPROBS_LATER).map(str::to_owned).collect();
        debug_assert_eq!(pieces.len(), logprobs.len() + 1);
        let last = pieces.pop().unwrap_or_default();
        let written = pieces
            .into_iter()
            .zip(logprobs)
            .flat_map(|(before, parts)| {
                std::iter::once(format!("{before}\"logprobs\":")).chain(parts)
            });
        let all = written.chain(std::iter::once(last));
        let body = stream::iter(all.map(Ok::<_, Infallible>));
        (kind, axum::body::Body::from_stream(body)).into_response()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists always make JSON")
    }
}

/// The `logprobs` of a choice whose log probabilities are written by [`Completion::response`].
pub(crate) fn logprobs_later() -> Value {
    Value::Object(serde_json::Map::new())
}

impl From<GenerationUsage> for UsageBody {
    fn from(usage: GenerationUsage) -> Self {
        let tokens = usage.tokens;
        Self {
            prompt_tokens: tokens.prompt_tokens,
            completion_tokens: tokens.completion_tokens,
            total_tokens: tokens.prompt_tokens + tokens.completion_tokens,
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: tokens.cached_tokens,
            },
            completion_tokens_details: CompletionTokensDetails {
                reasoning_tokens: usage.reasoning_tokens,
            },
        }
    }
}

/// Chunks as events.
pub(crate) fn events(chunks: Vec<String>) -> Vec<StreamEvent> {
    chunks.into_iter().map(StreamEvent::Data).collect()
}

/// The last chunks of a choice; after the last choice, the usage if it was asked for, and `[DONE]`.
pub(crate) fn closing(
    mut chunks: Vec<String>,
    usage: Option<GenerationUsage>,
    chunk: impl FnOnce(GenerationUsage) -> Option<String>,
) -> Vec<StreamEvent> {
    if let Some(usage) = usage {
        chunks.extend(chunk(usage));
        chunks.push("[DONE]".to_owned());
    }
    events(chunks)
}

/// The last event of a stream that failed: `{"error": …}`, and no `[DONE]`.
pub(crate) fn failure(error: &ApiError) -> Vec<StreamEvent> {
    events(vec![error.body().to_string()])
}

/// OpenAI's word for why a generation ended.
pub(crate) fn finish_reason(end: &GenerationEnd) -> &'static str {
    match end {
        GenerationEnd::Stop | GenerationEnd::StopString(_) => "stop",
        GenerationEnd::Length => "length",
        GenerationEnd::ToolCalls => "tool_calls",
    }
}
