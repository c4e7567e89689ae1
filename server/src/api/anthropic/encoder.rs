//! The answer: output events in, server-sent events out, and the message object that they build.

use serde_json::{Map, Value, json};

use super::error::failure_type;
use super::input;
use crate::api::generation::GenerationEnd;
use crate::api::protocol::{AnswerEnd, AnswerUsage, Failure, ReplyPart, Sse};

/// The signature of thinking blocks. Clients send it back with the block; some drop blocks without one.
const SIGNATURE: &str = "unsigned";

/// Builds a message and the events that stream it.
///
/// Call [`opening`](Self::opening) once, [`event`](Self::event) for each output event, then [`end`](Self::end) or
/// [`failure`](Self::failure) once.
#[derive(Debug)]
pub(crate) struct MessageEncoder {
    message: Map<String, Value>,
    /// Blocks that are complete.
    content: Vec<Value>,
    open: Option<OpenBlock>,
    has_calls: bool,
}

/// The content block that grows.
#[derive(Debug)]
struct OpenBlock {
    kind: BlockKind,
    /// The thinking, the text or the arguments so far.
    text: String,
}

#[derive(Debug, PartialEq)]
enum BlockKind {
    Thinking,
    Text,
    ToolUse {
        index: usize,
        id: String,
        name: String,
    },
}

impl MessageEncoder {
    /// An encoder for one answer of `model`. `prompt` and `cached` are the tokens of [`AnswerUsage`] as far as they are known
    /// before the first token, else 0. `ids` makes an id that begins with the given prefix and is never repeated.
    pub(crate) fn new(
        model: &str,
        prompt: usize,
        cached: usize,
        ids: &mut dyn FnMut(&str) -> String,
    ) -> Self {
        let usage = usage(AnswerUsage {
            prompt,
            cached,
            ..AnswerUsage::default()
        });
        let Value::Object(message) = json!({
            "id": ids("msg_"),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_details": null,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage,
        }) else {
            unreachable!("an object was written");
        };
        Self {
            message,
            content: Vec::new(),
            open: None,
            has_calls: false,
        }
    }

    /// The event before the first token: `message_start`.
    pub(crate) fn opening(&mut self) -> Vec<Sse> {
        vec![sse("message_start", json!({ "message": self.message }))]
    }

    /// The events for a piece of output.
    pub(crate) fn event(&mut self, event: ReplyPart) -> Vec<Sse> {
        let mut out = Vec::new();
        match event {
            ReplyPart::Reasoning(delta) => self.append(BlockKind::Thinking, &delta, &mut out),
            ReplyPart::Content(delta) => self.append(BlockKind::Text, &delta, &mut out),
            ReplyPart::CallStart { index, name, id } => {
                let id = format!("toolu_{}", id.strip_prefix("call_").unwrap_or(&id));
                self.close(&mut out);
                self.has_calls = true;
                self.open(BlockKind::ToolUse { index, id, name }, &mut out);
            }
            ReplyPart::CallArguments { index, delta } => {
                if self.open_call() == Some(index) && !delta.is_empty() {
                    self.extend(&delta, &mut out);
                }
            }
            ReplyPart::CallEnd { index } => {
                if self.open_call() == Some(index) {
                    self.close(&mut out);
                }
            }
        }
        out
    }

    /// The last events: the open block's, `message_delta`, `message_stop`.
    pub(crate) fn end(&mut self, end: AnswerEnd) -> Vec<Sse> {
        let mut out = Vec::new();
        // A stop string within a call leaves arguments that are not complete: the message has no such call.
        let is_call_cut =
            self.open_call().is_some() && matches!(end.reason, GenerationEnd::StopString(_));
        self.close(&mut out);
        if is_call_cut {
            self.content.pop();
        }
        let (reason, stop) = match end.reason {
            GenerationEnd::Length => ("max_tokens", None),
            GenerationEnd::StopString(stop) => ("stop_sequence", Some(stop)),
            GenerationEnd::Stop | GenerationEnd::ToolCalls if self.has_calls => ("tool_use", None),
            GenerationEnd::Stop | GenerationEnd::ToolCalls => ("end_turn", None),
        };
        let usage = usage(end.usage);
        let content = std::mem::take(&mut self.content);
        self.message.insert("content".into(), content.into());
        self.message.insert("stop_reason".into(), reason.into());
        self.message
            .insert("stop_sequence".into(), stop.clone().into());
        self.message.insert("usage".into(), usage.clone());
        let delta = json!({ "stop_details": null, "stop_reason": reason, "stop_sequence": stop });
        out.push(sse(
            "message_delta",
            json!({ "delta": delta, "usage": usage }),
        ));
        out.push(sse("message_stop", json!({})));
        out
    }

    /// The last event of an answer that failed: `error`.
    pub(crate) fn failure(&mut self, failure: Failure) -> Vec<Sse> {
        let error = json!({ "type": failure_type(failure.kind), "message": failure.message });
        vec![sse("error", json!({ "error": error }))]
    }

    /// An event that changes nothing, for times without output: `ping`.
    pub(crate) fn keep_alive(&mut self) -> Sse {
        sse("ping", json!({}))
    }

    /// The finished message, after [`end`](Self::end).
    pub(crate) fn message(&self) -> Value {
        self.message.clone().into()
    }

    /// Adds to the open block if it is of this kind, else to a new one.
    fn append(&mut self, kind: BlockKind, delta: &str, out: &mut Vec<Sse>) {
        if delta.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close(out);
            self.open(kind, out);
        }
        self.extend(delta, out);
    }

    fn open_call(&self) -> Option<usize> {
        match self.open.as_ref()?.kind {
            BlockKind::ToolUse { index, .. } => Some(index),
            _ => None,
        }
    }

    fn open(&mut self, kind: BlockKind, out: &mut Vec<Sse>) {
        let block = match &kind {
            BlockKind::Thinking => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            BlockKind::Text => json!({ "type": "text", "text": "" }),
            BlockKind::ToolUse { id, name, .. } => {
                json!({ "type": "tool_use", "id": id, "name": name, "input": {} })
            }
        };
        let start = json!({ "index": self.content.len(), "content_block": block });
        out.push(sse("content_block_start", start));
        let text = String::new();
        self.open = Some(OpenBlock { kind, text });
    }

    fn extend(&mut self, more: &str, out: &mut Vec<Sse>) {
        let Some(open) = &mut self.open else {
            return;
        };
        open.text.push_str(more);
        let delta = match open.kind {
            BlockKind::Thinking => json!({ "type": "thinking_delta", "thinking": more }),
            BlockKind::Text => json!({ "type": "text_delta", "text": more }),
            BlockKind::ToolUse { .. } => {
                json!({ "type": "input_json_delta", "partial_json": more })
            }
        };
        out.push(self.delta(delta));
    }

    fn close(&mut self, out: &mut Vec<Sse>) {
        let Some(OpenBlock { kind, text }) = self.open.take() else {
            return;
        };
        let block = match kind {
            BlockKind::Thinking => {
                let signature = json!({ "type": "signature_delta", "signature": SIGNATURE });
                out.push(self.delta(signature));
                json!({ "type": "thinking", "thinking": text, "signature": SIGNATURE })
            }
            BlockKind::Text => json!({ "type": "text", "text": text }),
            BlockKind::ToolUse { id, name, .. } => {
                json!({ "type": "tool_use", "id": id, "name": name, "input": input::parse(&text) })
            }
        };
        out.push(sse(
            "content_block_stop",
            json!({ "index": self.content.len() }),
        ));
        self.content.push(block);
    }

    fn delta(&self, delta: Value) -> Sse {
        let data = json!({ "index": self.content.len(), "delta": delta });
        sse("content_block_delta", data)
    }
}

/// `input_tokens` excludes the cached ones.
fn usage(usage: AnswerUsage) -> Value {
    json!({
        "input_tokens": usage.prompt.saturating_sub(usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
    })
}

fn sse(event: &'static str, data: Value) -> Sse {
    let mut whole = Map::new();
    whole.insert("type".into(), event.into());
    if let Value::Object(data) = data {
        whole.extend(data);
    }
    Sse {
        event,
        data: whole.into(),
    }
}

/// The plain answer: the message that the stream of the same events builds.
#[cfg(test)]
pub(crate) fn whole(
    mut encoder: MessageEncoder,
    events: impl IntoIterator<Item = ReplyPart>,
    end: AnswerEnd,
) -> Value {
    for event in events {
        encoder.event(event);
    }
    encoder.end(end);
    encoder.message()
}
