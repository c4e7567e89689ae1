//! Anthropic Messages, `POST /v1/messages` and `POST /v1/messages/count_tokens`, as a translation of chat completions.
//!
//! Source: Anthropic's API reference, "Messages", and the types of its SDKs.
//!
//! # The request
//!
//! | Messages | Chat |
//! | --- | --- |
//! | `system`, a string or text blocks | a system message before all others; blocks are separate paragraphs |
//! | blocks of a user turn: `tool_result` | `tool` messages, before the turn's text |
//! | blocks of a user turn: `text` | a user message; blocks begin on new lines |
//! | blocks of an assistant turn: `thinking`, `text`, `tool_use` | `reasoning_content`, `content`, `tool_calls` |
//! | `redacted_thinking` | nothing |
//! | a `system` turn inside `messages` | text in `<system-reminder>` tags, at the end of the user turn before it or else at the start of the one after it |
//! | a final assistant turn | `continue_final_message: true`: the answer continues it |
//! | `tools[].input_schema` | `tools[].function.parameters`; server tools are dropped |
//! | `tool_choice` `auto`, `any`, `tool`, `none` | `auto`, `required`, a named function, `none` |
//! | `disable_parallel_tool_use: true` | `parallel_tool_calls: false` |
//! | `thinking` `enabled`, `adaptive` | `enable_thinking: true`; `disabled` or absent: false |
//! | `output_config.effort` | `reasoning_effort`, where thinking is on |
//! | `output_config.format` | `response_format` |
//! | `stop_sequences` | `stop` |
//! | `max_tokens` | `max_tokens` |
//!
//! A `system` turn is folded in place, and not merged into the leading system message, because the prefix cache
//! depends on it: a new instruction at the front changes every token after it.
//!
//! Reminders beside tool results, without other text, are added to the last result. As a user message they would be a
//! new query to Qwen's template, which drops the reasoning of all turns before the last query. The model would lose its
//! reasoning in the middle of a task, and the prefix cache every token since the task began. The same holds for text
//! blocks in `<system-reminder>` tags that clients put beside tool results.
//!
//! The text of a `tool_result` with `is_error: true` begins with the line [`TOOL_ERROR`]; the chat model has no flag
//! for it.
//!
//! # The billing header
//!
//! Claude Code sends a line `x-anthropic-billing-header: …` in its system prompt. Some versions change it with each
//! request, which would defeat the prefix cache at the first tokens. The line is removed where it begins a system
//! string, a system block or a system turn. User text is never changed.
//!
//! # The answer
//!
//! [`MessageEncoder`] makes one content block of each run of reasoning, of text, and of each call. A call that was cut
//! by the limit of tokens stays in the answer with `stop_reason: "max_tokens"`. Its `input` has the members that were
//! complete; clients run calls at `stop_reason: "tool_use"` only. One that was cut by a stop sequence is not in the plain
//! answer, nor in what a thread keeps of it; a stream has sent its block.

mod block;
mod encoder;
mod error;
mod handler;
mod input;
mod options;
mod request;
mod system;
#[cfg(test)]
mod tests;
mod threads;
mod tools;

pub(crate) use encoder::MessageEncoder;
#[cfg(test)]
pub(crate) use encoder::whole;
#[cfg(test)]
pub(crate) use error::error_body;
pub(crate) use error::{failure_type, shape};
pub(crate) use handler::{count, create};
pub(crate) use request::{count_answer, translate, translate_count};
