//! The answer: output events in, server-sent events out, and the response object that they build.

use serde_json::{Map, Value, json};

use super::response::{RepeatedFields, usage};
use crate::api::generation::GenerationEnd;
use crate::api::protocol::{AnswerEnd, Failure, FailureKind, ReplyPart, Sse};

/// Builds a response and the events that stream it.
///
/// Call [`opening`](Self::opening) once, [`event`](Self::event) for each output event, then [`end`](Self::end) or
/// [`failure`](Self::failure) once.
#[derive(Debug)]
pub(crate) struct ResponseEncoder {
    response: Map<String, Value>,
    /// What the ids of the output items end with.
    suffix: String,
    /// Items that are complete.
    output: Vec<Value>,
    open: Option<OpenItem>,
    sequence: u64,
    is_opened: bool,
}

/// The output item that grows.
#[derive(Debug)]
struct OpenItem {
    id: String,
    kind: ItemKind,
    /// The reasoning, the text or the arguments so far.
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum ItemKind {
    Reasoning,
    Message,
    Call {
        index: usize,
        call_id: String,
        name: String,
    },
}

impl ResponseEncoder {
    /// An encoder for one answer of `model`. `ids` makes an id that begins with the given prefix and is never
    /// repeated; `created_at` is Unix time in seconds.
    pub(crate) fn new(
        echo: RepeatedFields,
        model: &str,
        created_at: u64,
        ids: &mut dyn FnMut(&str) -> String,
    ) -> Self {
        let id = ids("resp_");
        let suffix = id.strip_prefix("resp_").unwrap_or(&id).to_owned();
        Self {
            response: echo.into_response(&id, model, created_at),
            suffix,
            output: Vec::new(),
            open: None,
            sequence: 0,
            is_opened: false,
        }
    }

    /// The events before the first token: `response.created`, `response.in_progress`.
    pub(crate) fn opening(&mut self) -> Vec<Sse> {
        self.is_opened = true;
        vec![
            self.response_event("response.created"),
            self.response_event("response.in_progress"),
        ]
    }

    /// The events for a piece of output.
    pub(crate) fn event(&mut self, event: ReplyPart) -> Vec<Sse> {
        let mut out = Vec::new();
        match event {
            ReplyPart::Reasoning(delta) => self.append(ItemKind::Reasoning, &delta, &mut out),
            ReplyPart::Content(delta) => self.append(ItemKind::Message, &delta, &mut out),
            ReplyPart::CallStart { index, name, id } => {
                let call = ItemKind::Call {
                    index,
                    call_id: id,
                    name,
                };
                self.close("completed", &mut out);
                self.open(call, &mut out);
            }
            ReplyPart::CallArguments { index, delta } => {
                if self.open_call() == Some(index) && !delta.is_empty() {
                    self.extend(&delta, &mut out);
                }
            }
            ReplyPart::CallEnd { index } => {
                if self.open_call() == Some(index) {
                    self.close("completed", &mut out);
                }
            }
        }
        out
    }

    /// The last events: the open item's, then `response.completed` or, at the limit of tokens, `response.incomplete`.
    pub(crate) fn end(&mut self, end: AnswerEnd) -> Vec<Sse> {
        let mut out = Vec::new();
        let (event, status) = match end.reason {
            GenerationEnd::Length => ("response.incomplete", "incomplete"),
            GenerationEnd::Stop | GenerationEnd::StopString(_) | GenerationEnd::ToolCalls => {
                ("response.completed", "completed")
            }
        };
        // A stop string within a call leaves arguments that are not complete.
        let is_stopped = matches!(end.reason, GenerationEnd::StopString(_));
        let last = match is_stopped && self.open_call().is_some() {
            true => "incomplete",
            false => status,
        };
        self.close(last, &mut out);
        let answered = self.output.iter().any(|item| item["type"] != "reasoning");
        if !answered && status == "completed" {
            // Agents take the last message as the result and fail where there is none.
            self.open(ItemKind::Message, &mut out);
            self.close(status, &mut out);
        }
        if status == "incomplete" {
            let details = json!({ "reason": "max_output_tokens" });
            self.response.insert("incomplete_details".into(), details);
        }
        self.response.insert("status".into(), status.into());
        self.response.insert("usage".into(), usage(end.usage));
        let output = std::mem::take(&mut self.output);
        self.response.insert("output".into(), output.into());
        out.push(self.response_event(event));
        out
    }

    /// The last event of an answer that failed: `response.failed` with the items that were complete. Before
    /// [`opening`](Self::opening) it is an `error` event.
    pub(crate) fn failure(&mut self, failure: Failure) -> Vec<Sse> {
        let Failure { kind, message } = failure;
        let code = failure_code(kind);
        if !self.is_opened {
            let error = json!({ "code": code, "message": message, "param": null });
            return vec![self.sse("error", error)];
        }
        self.open = None;
        let error = json!({ "code": code, "message": message });
        self.response.insert("error".into(), error);
        self.response.insert("status".into(), "failed".into());
        let output = std::mem::take(&mut self.output);
        self.response.insert("output".into(), output.into());
        vec![self.response_event("response.failed")]
    }

    /// An event that changes nothing, for times without output: `response.in_progress` again. Clients measure
    /// their idle timeout between events; comments do not reset it.
    pub(crate) fn keep_alive(&mut self) -> Sse {
        self.response_event("response.in_progress")
    }

    /// The response as it was sent last; the finished one after [`end`](Self::end).
    pub(crate) fn response(&self) -> Value {
        self.response.clone().into()
    }

    /// Adds to the open item if it is of this kind, else to a new one.
    fn append(&mut self, kind: ItemKind, delta: &str, out: &mut Vec<Sse>) {
        if delta.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close("completed", out);
            self.open(kind, out);
        }
        self.extend(delta, out);
    }

    fn open_call(&self) -> Option<usize> {
        match self.open.as_ref()?.kind {
            ItemKind::Call { index, .. } => Some(index),
            _ => None,
        }
    }

    fn open(&mut self, kind: ItemKind, out: &mut Vec<Sse>) {
        let number = self.output.len();
        let prefix = match kind {
            ItemKind::Reasoning => "rs",
            ItemKind::Message => "msg",
            ItemKind::Call { .. } => "fc",
        };
        let item = OpenItem {
            id: format!("{prefix}_{}{number:02x}", self.suffix),
            kind,
            text: String::new(),
        };
        let added = json!({ "output_index": number, "item": item.shown("in_progress") });
        out.push(self.sse("response.output_item.added", added));
        if item.kind == ItemKind::Message {
            let part = json!({ "content_index": 0, "part": output_text("") });
            out.push(self.item_event("response.content_part.added", &item.id, part));
        }
        self.open = Some(item);
    }

    fn extend(&mut self, delta: &str, out: &mut Vec<Sse>) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.text.push_str(delta);
        let (event, data) = match open.kind {
            ItemKind::Reasoning => (
                "response.reasoning_text.delta",
                json!({ "content_index": 0, "delta": delta }),
            ),
            ItemKind::Message => (
                "response.output_text.delta",
                json!({ "content_index": 0, "delta": delta, "logprobs": [] }),
            ),
            ItemKind::Call { .. } => (
                "response.function_call_arguments.delta",
                json!({ "delta": delta }),
            ),
        };
        out.push(self.item_event(event, &open.id, data));
        self.open = Some(open);
    }

    fn close(&mut self, status: &str, out: &mut Vec<Sse>) {
        let is_cut = status == "incomplete";
        if self.open_call().is_some()
            && !is_cut
            && self.open.as_ref().is_some_and(|open| open.text.is_empty())
        {
            // Clients parse the arguments as JSON.
            self.extend("{}", out);
        }
        let Some(item) = self.open.take() else {
            return;
        };
        let text = &item.text;
        match &item.kind {
            ItemKind::Reasoning => {
                let data = json!({ "content_index": 0, "text": text });
                out.push(self.item_event("response.reasoning_text.done", &item.id, data));
            }
            ItemKind::Message => {
                let data = json!({ "content_index": 0, "text": text, "logprobs": [] });
                out.push(self.item_event("response.output_text.done", &item.id, data));
                let data = json!({ "content_index": 0, "part": output_text(text) });
                out.push(self.item_event("response.content_part.done", &item.id, data));
            }
            ItemKind::Call { name, .. } if !is_cut => {
                let data = json!({ "arguments": text, "name": name });
                out.push(self.item_event("response.function_call_arguments.done", &item.id, data));
            }
            ItemKind::Call { .. } => {}
        }
        let whole = item.shown(status);
        let done = json!({ "output_index": self.output.len(), "item": whole });
        out.push(self.sse("response.output_item.done", done));
        self.output.push(whole);
    }

    fn response_event(&mut self, event: &'static str) -> Sse {
        let response = self.response.clone();
        self.sse(event, json!({ "response": response }))
    }

    /// An event about the item that is open, or about to be.
    fn item_event(&mut self, event: &'static str, item_id: &str, data: Value) -> Sse {
        let mut whole = json!({ "item_id": item_id, "output_index": self.output.len() });
        extend(&mut whole, data);
        self.sse(event, whole)
    }

    fn sse(&mut self, event: &'static str, data: Value) -> Sse {
        let mut whole = json!({ "type": event, "sequence_number": self.sequence });
        self.sequence += 1;
        extend(&mut whole, data);
        Sse { event, data: whole }
    }
}

impl OpenItem {
    /// The item as clients see it.
    fn shown(&self, status: &str) -> Value {
        let in_progress = status == "in_progress";
        let parts = |part: Value| {
            if in_progress {
                json!([])
            } else {
                json!([part])
            }
        };
        match &self.kind {
            ItemKind::Reasoning => json!({
                "id": self.id,
                "type": "reasoning",
                "summary": [],
                "content": parts(json!({ "type": "reasoning_text", "text": self.text })),
                "status": status,
            }),
            ItemKind::Message => json!({
                "id": self.id,
                "type": "message",
                "role": "assistant",
                "status": status,
                "content": parts(output_text(&self.text)),
            }),
            ItemKind::Call { call_id, name, .. } => json!({
                "id": self.id,
                "type": "function_call",
                "call_id": call_id,
                "name": name,
                "arguments": self.text,
                "status": status,
            }),
        }
    }
}

/// The code of a failure that ends a stream.
pub(crate) fn failure_code(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Invalid => "invalid_prompt",
        FailureKind::Overloaded => "rate_limit_exceeded",
        FailureKind::Server => "server_error",
    }
}

fn output_text(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// The plain answer: the response object that the stream of the same events ends with.
#[cfg(test)]
pub(crate) fn whole(
    mut encoder: ResponseEncoder,
    events: impl IntoIterator<Item = ReplyPart>,
    end: AnswerEnd,
) -> Value {
    for event in events {
        encoder.event(event);
    }
    encoder.end(end);
    encoder.response()
}
