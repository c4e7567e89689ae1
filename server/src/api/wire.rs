//! The answers as OpenAI's clients expect them, in types that serialise to it.
//!
//! Source of the shapes: OpenAI's API reference, "Chat" and "Completions (legacy)". `reasoning_content` is the name
//! that Qwen's and other open models' servers agreed on.

use std::convert::Infallible;
use std::time::SystemTime;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sanctum_engine::schedule::{FinishReason, Usage};
use serde::Serialize;
use serde_json::Value;

use crate::models::{Ready, Served};
use crate::random;

/// How the field is written whose value follows part by part.
const LOGPROBS_LATER: &str = r#""logprobs":{}"#;

/// What every answer and every chunk of it begins with.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    /// The same for all chunks of an answer.
    pub id: String,
    /// `chat.completion`, `chat.completion.chunk` or `text_completion`.
    pub object: &'static str,
    /// Unix time in seconds.
    pub created: u64,
    /// Which model answered.
    pub model: String,
    /// Which weights and which arithmetic answered.
    pub system_fingerprint: String,
}

/// An answer or a chunk of one.
#[derive(Clone, Debug, Serialize)]
pub struct Body<'a, Choice> {
    /// Which answer this is.
    #[serde(flatten)]
    pub head: &'a Head,
    /// One choice; none in the chunk that carries the usage.
    pub choices: Vec<Choice>,
    /// Absent, null or there: a stream that will send the usage in its last chunk shows null in all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<UsageBody>>,
}

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct UsageBody {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

/// A whole chat answer.
#[derive(Clone, Debug, Serialize)]
pub struct ChatChoice {
    /// Always 0.
    pub index: u32,
    /// What was said.
    pub message: Message,
    /// Null unless asked for.
    pub logprobs: Option<Value>,
    /// Why it ended.
    pub finish_reason: &'static str,
}

/// What was said.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Message {
    /// Always `assistant`.
    pub role: &'static str,
    /// Null where there are calls and no words.
    pub content: Option<String>,
    /// What was thought before, when thinking was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The calls, if any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Call>,
}

/// A chunk of a chat answer.
#[derive(Clone, Debug, Serialize)]
pub struct ChatDelta {
    /// Always 0.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// Null unless asked for.
    pub logprobs: Option<Value>,
    /// Null until the last.
    pub finish_reason: Option<&'static str>,
}

/// What is new in a chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Delta {
    /// In the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// More words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// A call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    /// Which call of the answer: in chunks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// What the tool's answer refers to.
    pub id: String,
    /// Always `function`.
    pub r#type: &'static str,
    /// What is called, with what.
    pub function: Function,
}

/// What is called, with what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    /// The tool's name.
    pub name: String,
    /// A JSON object, as a string.
    pub arguments: String,
}

/// A text completion, whole or a chunk.
#[derive(Clone, Debug, Serialize)]
pub struct TextChoice {
    /// Always 0.
    pub index: u32,
    /// The text, or more of it.
    pub text: String,
    /// Null unless asked for.
    pub logprobs: Option<Value>,
    /// Null until the last chunk.
    pub finish_reason: Option<&'static str>,
}

impl Message {
    /// Takes in what is new.
    pub fn add(&mut self, delta: Delta) {
        for (whole, more) in [
            (&mut self.content, delta.content),
            (&mut self.reasoning_content, delta.reasoning_content),
        ] {
            if let Some(more) = more {
                whole.get_or_insert_default().push_str(&more);
            }
        }
        for mut call in delta.tool_calls {
            call.index = None;
            self.tool_calls.push(call);
        }
    }

    /// The message of a whole answer: with content, be it empty, unless there are calls.
    pub fn whole(mut self) -> Self {
        self.role = "assistant";
        self.content = self.content.filter(|content| !content.is_empty());
        if self.tool_calls.is_empty() {
            self.content.get_or_insert_default();
        }
        self
    }
}

impl Head {
    /// For a new answer of a model.
    pub fn new(prefix: &str, object: &'static str, served: &Served, ready: &Ready) -> Self {
        Self {
            id: random::id(prefix),
            object,
            created: now(),
            model: served.id().to_string(),
            system_fingerprint: ready.fingerprint.clone(),
        }
    }
}

impl<'a, Choice: Serialize> Body<'a, Choice> {
    /// A whole answer.
    pub fn whole(head: &'a Head, choice: Choice, usage: Usage) -> Self {
        Self {
            head,
            choices: vec![choice],
            usage: Some(Some(usage.into())),
        }
    }

    /// A chunk, as text; `include_usage` says that the usage will follow in a chunk of its own.
    pub fn chunk(head: &'a Head, choice: Choice, include_usage: bool) -> String {
        let usage = include_usage.then_some(None);
        Self {
            head,
            choices: vec![choice],
            usage,
        }
        .text()
    }

    /// The chunk that carries the usage, as text.
    pub fn usage(head: &'a Head, usage: Usage) -> String {
        Self {
            head,
            choices: Vec::new(),
            usage: Some(Some(usage.into())),
        }
        .text()
    }

    /// The response of a whole answer. `logprobs` is the text that takes the place of
    /// [`later`](super::logprobs::later), made part by part while it is sent.
    pub fn response<I>(&self, logprobs: Option<I>) -> Response
    where
        I: Iterator<Item = String> + Send + 'static,
    {
        let text = self.text();
        let kind = [(header::CONTENT_TYPE, "application/json")];
        let Some(parts) = logprobs else {
            return (kind, text).into_response();
        };
        // A quotation mark within a string is escaped, so that this is the field itself.
        let (before, after) = text
            .split_once(LOGPROBS_LATER)
            .expect("the choice has its logprobs later");
        let before = format!("{before}\"logprobs\":");
        let after = after.to_owned();
        let all = std::iter::once(before)
            .chain(parts)
            .chain(std::iter::once_with(move || after));
        let body = stream::iter(all.map(Ok::<_, Infallible>));
        (kind, axum::body::Body::from_stream(body)).into_response()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists always make JSON")
    }
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

/// The word for why an answer ended.
pub fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

/// Unix time in seconds.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs())
}
