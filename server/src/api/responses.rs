//! OpenAI Responses, `POST /v1/responses`, as a translation of chat completions.
//!
//! Source: OpenAI's API reference, "Responses", and the types of its SDKs.
//!
//! # The request
//!
//! | Responses | Chat |
//! | --- | --- |
//! | `instructions` | a system message before all others |
//! | `input`: a string | a user message |
//! | item `message` | a message of its role; a missing `type` means `message` |
//! | items `reasoning`, assistant `message`, `function_call` that are neighbours | one assistant message: `reasoning_content`, `content`, `tool_calls` |
//! | item `function_call_output` | a `tool` message |
//! | `tools[]`, flat | `tools[].function`; other types than `function` are dropped |
//! | `tool_choice`, flat | nested |
//! | `text.format`, flat | `response_format`, nested |
//! | `text.verbosity`, `reasoning.effort` | `verbosity`, `reasoning_effort` |
//! | `max_output_tokens` | `max_completion_tokens` |
//! | `previous_response_id` | the items of that response and of all before it, then `input` |
//!
//! `reasoning` without `effort` leaves the server's default. A reasoning item without `content` contributes its
//! summaries; one with `encrypted_content` only contributes nothing.
//!
//! # State
//!
//! `store` is true by default: the response and its input are kept in the [`Store`], in memory, for a limited time,
//! within limits of entries and bytes. A client continues a response with `previous_response_id`. A response that is no
//! longer there is refused with the request to send the whole input; so is a response of another client. `conversation`,
//! `prompt` and `background` refer to state that this server does not have and are refused.
//!
//! # The answer
//!
//! [`ResponseEncoder`] makes one output item of each run of reasoning, of text, and of each call. An answer that
//! reaches the limit of tokens is `incomplete`, and so is its last item. A call that was cut has `status: "incomplete"`
//! and the arguments so far, without a `response.function_call_arguments.done` event: its arguments are not valid JSON,
//! and no client should run it.

mod encoder;
mod format;
mod handler;
mod item;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod tools;

#[cfg(test)]
pub(crate) use encoder::whole;
pub(crate) use encoder::{ResponseEncoder, failure_code};
pub(crate) use handler::{create, delete, read};
pub(crate) use request::{ResponsesRequest, translate};
pub(crate) use response::deletion_answer;
