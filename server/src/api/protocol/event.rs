//! The output of a generation, in the form that encoders read.

use serde_json::Value;

use crate::api::generation::GenerationEnd;

/// The end of a generation that ran to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AnswerEnd {
    /// Why it ended.
    pub reason: GenerationEnd,
    /// What it took.
    pub usage: AnswerUsage,
}

/// Tokens of a request and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct AnswerUsage {
    /// Tokens of the prompt, cached ones included.
    pub prompt: usize,
    /// Tokens of the prompt whose computation was reused.
    pub cached: usize,
    /// Generated tokens, reasoning included.
    pub completion: usize,
    /// Generated tokens of the reasoning.
    pub reasoning: usize,
}

/// A generation that failed after its answer had begun.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// What clients decide a retry by.
    pub kind: FailureKind,
    /// What failed, for people.
    pub message: String,
}

/// What clients decide a retry by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FailureKind {
    /// The request cannot succeed; do not retry.
    Invalid,
    /// The server is too busy or is shutting down; retry later.
    Overloaded,
    /// The engine failed.
    Server,
}

/// A server-sent event: an `event:` line and a `data:` line of JSON.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sse {
    /// The event's type; `data.type` has the same value.
    pub event: &'static str,
    /// The event's data, a JSON object.
    pub data: Value,
}
