//! What the translations of client protocols share.
//!
//! The server has one model of a conversation: the body of a chat completions request. Every other protocol is a
//! translation of it, in both directions:
//!
//! ```text
//! client's body ── translate ──> chat body ── chat parser ──> engine
//! client's answer <── encoder <── output events ─────────────────┘
//! ```
//!
//! A translation knows the shape of its own protocol and nothing else. It moves values to their place in the chat
//! body ([`Translated`]) and leaves types and ranges to the chat parser, which checks every request once. An error of
//! the chat parser names a place in the chat body; [`Names`] maps it back to the place in the client's own body.
//!
//! Rules that hold for every protocol:
//!
//! - `null` is the same as an absent field.
//! - Unknown fields inside messages, items, content blocks and tools are ignored: clients echo what other servers sent.
//! - An unknown top-level field is passed to the chat parser under its own name. The chat parser has the field policy.
//!   So the chat extensions (`seed`, `guided_regex`, `chat_template_kwargs`, …) work in every protocol.
//! - A tool that this server cannot run (web search, remote MCP, …) is dropped and listed in
//!   [`Translated::ignored`]. Images and files are refused by path.
//!
//! An encoder is a state machine: [`ReplyPart`]s go in, server-sent events ([`Sse`]) come out. The plain answer is
//! built by the same state machine, so the streamed and the plain answer cannot differ in what is complete.

mod conversation;
mod event;
mod fields;
mod respond;
#[cfg(test)]
pub(crate) mod tests;
mod translate;
mod translation_error;

pub(crate) use crate::api::reply::ReplyPart;
pub(crate) use conversation::{ChatMessages, Message, ToolCall};
pub(crate) use event::{AnswerEnd, AnswerUsage, Failure, FailureKind, Sse};
pub(crate) use fields::{ProtocolFields, required_object, text};
pub(crate) use respond::{AnswerEncoder, respond};
pub(crate) use translate::parse;
pub(crate) use translation_error::TranslationError;

use serde_json::{Map, Value};

use super::names::Names;

/// A request as the chat parser takes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Translated {
    /// The body of a chat completions request: `model`, `messages`, `tools`, … Not validated yet.
    pub chat: Map<String, Value>,
    /// Maps places of `chat` to places of the client's body.
    pub names: Names,
    /// The top-level fields of the client's protocol: one that looks like them is misspelt.
    pub known: Vec<&'static str>,
    /// Paths of the client's body that were accepted and have no effect, although the client might expect one.
    pub ignored: Vec<String>,
}
