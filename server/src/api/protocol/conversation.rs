//! The `messages` of a chat body, and where each part of them came from.

use serde_json::{Map, Value, json};

use crate::api::client_path::Path;
use crate::api::names::Names;

/// A message of a chat body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// Where it came from: an item, a message or a content block of the client's body.
    pub path: Path,
    reasoning: Option<(String, Path)>,
    parts: Vec<(String, Path)>,
    calls: Vec<ToolCall>,
    tool_call_id: Option<String>,
    /// The client sent the content as one string, at this path.
    whole: bool,
}

/// A call of an assistant message.
#[derive(Clone, Debug)]
pub(crate) struct ToolCall {
    /// The id that the output refers to. Absent or of another type: the chat parser refuses it.
    pub id: Option<Value>,
    /// The function's name.
    pub name: Option<Value>,
    /// The arguments: JSON as a string.
    pub arguments: Option<Value>,
    /// Where the call came from.
    pub path: Path,
    /// Where its id came from.
    pub id_path: Path,
    /// Where its arguments came from.
    pub arguments_path: Path,
}

impl Message {
    /// A message without content.
    pub(crate) fn new(role: &'static str, path: Path) -> Self {
        Self {
            role,
            path,
            reasoning: None,
            parts: Vec::new(),
            calls: Vec::new(),
            tool_call_id: None,
            whole: false,
        }
    }

    /// A message whose content is one string, which came from `path`.
    pub(crate) fn of_text(role: &'static str, text: &str, path: Path) -> Self {
        let mut message = Self::new(role, path.clone());
        message.parts.push((text.to_owned(), path));
        message.whole = true;
        message
    }

    /// The output of a tool.
    pub(crate) fn tool(tool_call_id: &str, path: Path) -> Self {
        let mut message = Self::new("tool", path);
        message.tool_call_id = Some(tool_call_id.to_owned());
        message
    }

    /// Adds a text part, which came from `path`.
    pub(crate) fn push_text(&mut self, text: impl Into<String>, path: Path) {
        self.whole = false;
        self.parts.push((text.into(), path));
    }

    /// Adds a text part that starts on a new line or, with `"\n\n"`, a new paragraph. Chat templates join the parts of
    /// a message without anything in between.
    pub(crate) fn push_separated(&mut self, separator: &str, text: &str, path: Path) {
        match self.parts.last() {
            Some((last, _)) if !last.is_empty() && !last.ends_with('\n') => {
                self.push_text(format!("{separator}{text}"), path);
            }
            _ => self.push_text(text, path),
        }
    }

    /// Adds texts before all others, each on lines of its own.
    pub(crate) fn prepend(&mut self, texts: Vec<(String, Path)>) {
        let rest = std::mem::take(&mut self.parts);
        for (text, path) in texts.into_iter().chain(rest) {
            self.push_separated("\n", &text, path);
        }
    }

    /// Adds the texts of another message after its own, each on lines of its own.
    pub(crate) fn append(&mut self, other: Self) {
        for (text, path) in other.parts {
            self.push_separated("\n", text.trim_start_matches('\n'), path);
        }
    }

    /// Adds reasoning; several pieces are joined by a blank line.
    pub(crate) fn push_reasoning(&mut self, text: &str, path: Path) {
        match &mut self.reasoning {
            None => self.reasoning = Some((text.to_owned(), path)),
            Some((whole, _)) => {
                whole.push_str("\n\n");
                whole.push_str(text);
            }
        }
    }

    /// Adds a call.
    pub(crate) fn push_call(&mut self, call: ToolCall) {
        self.calls.push(call);
    }

    /// Its texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(text, _)| text.as_str())
    }

    /// Whether it has text that is not empty.
    pub(crate) fn has_text(&self) -> bool {
        self.texts().any(|text| !text.is_empty())
    }

    /// Whether it calls tools.
    pub(crate) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }
}

/// The `messages` of a chat body in the making.
#[derive(Debug, Default)]
pub(crate) struct ChatMessages {
    messages: Vec<Value>,
}

impl ChatMessages {
    /// Adds a message, and to `names` where its parts came from.
    pub(crate) fn push(&mut self, message: Message, names: &mut Names) {
        let place = format!("messages[{}]", self.messages.len());
        names.insert(place.as_str(), &message.path);
        let mut chat = Map::new();
        chat.insert("role".into(), message.role.into());
        if let Some((text, path)) = message.reasoning {
            names.insert_whole(format!("{place}.reasoning_content"), &path);
            chat.insert("reasoning_content".into(), text.into());
        }
        // An assistant that only calls tools has no content.
        if message.role != "assistant" || !message.parts.is_empty() {
            let content = content(message.parts, message.whole, &place, names);
            chat.insert("content".into(), content);
        }
        if !message.calls.is_empty() {
            let calls = message.calls.into_iter().enumerate();
            let calls: Vec<Value> = calls
                .map(|(index, call)| {
                    tool_call(call, &format!("{place}.tool_calls[{index}]"), names)
                })
                .collect();
            chat.insert("tool_calls".into(), calls.into());
        }
        if let Some(id) = message.tool_call_id {
            chat.insert("tool_call_id".into(), id.into());
        }
        self.messages.push(chat.into());
    }

    /// The finished `messages`.
    pub(crate) fn into_messages(self) -> Vec<Value> {
        self.messages
    }
}

fn content(mut parts: Vec<(String, Path)>, whole: bool, place: &str, names: &mut Names) -> Value {
    let place = format!("{place}.content");
    if whole && let Some((text, path)) = parts.pop() {
        names.insert_whole(place.as_str(), &path);
        return text.into();
    }
    let parts = parts.into_iter().enumerate();
    parts
        .map(|(index, (text, path))| {
            names.insert_whole(format!("{place}[{index}]"), &path);
            json!({ "type": "text", "text": text })
        })
        .collect::<Vec<_>>()
        .into()
}

fn tool_call(call: ToolCall, place: &str, names: &mut Names) -> Value {
    names.insert(place, &call.path);
    names.insert(format!("{place}.id"), &call.id_path);
    names.insert(format!("{place}.function"), &call.path);
    names.insert(format!("{place}.function.arguments"), &call.arguments_path);
    json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": call.arguments },
    })
}
