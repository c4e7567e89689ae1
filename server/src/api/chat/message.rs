//! The message of a chat completion, whole or in chunks.

use serde::Serialize;

use crate::api::generation::GenerationEnd;
use crate::api::reply::ReplyPart;

/// A whole message.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct AssistantMessage {
    /// Always `assistant`.
    role: &'static str,
    /// Null where there are calls and no content.
    content: Option<String>,
    /// Absent where there was no reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<FunctionCall>,
    /// Whether the last call is not complete.
    #[serde(skip)]
    is_calling: bool,
}

/// What is new in a chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Delta {
    /// In the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<FunctionCall>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct FunctionCall {
    /// Which call of the message it is: in chunks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// The id that the tool's result refers to: in a call's first chunk only, as are its type and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Always `function`.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: Function,
}

/// The tool that is called.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Function {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// A JSON object, as a string, or the next part of one.
    arguments: String,
}

impl AssistantMessage {
    /// Appends parts.
    pub(crate) fn extend(&mut self, parts: Vec<ReplyPart>) {
        for part in parts {
            match &part {
                ReplyPart::CallStart { .. } => self.is_calling = true,
                ReplyPart::CallEnd { .. } => self.is_calling = false,
                _ => {}
            }
            let mut delta = Delta::from(part);
            for (whole, more) in [
                (&mut self.content, delta.content),
                (&mut self.reasoning_content, delta.reasoning_content),
            ] {
                if let Some(more) = more {
                    whole.get_or_insert_default().push_str(&more);
                }
            }
            for mut call in std::mem::take(&mut delta.tool_calls) {
                call.index = None;
                match self.tool_calls.last_mut() {
                    // More of the call's arguments.
                    Some(last) if call.id.is_none() => {
                        last.function.arguments += &call.function.arguments;
                    }
                    _ => self.tool_calls.push(call),
                }
            }
        }
    }

    /// The message that ended so, with content unless there are calls, be it empty. A call that a stop string cut is left out.
    pub(crate) fn complete(mut self, end: &GenerationEnd) -> Self {
        self.role = "assistant";
        if self.is_calling && matches!(end, GenerationEnd::StopString(_)) {
            self.tool_calls.pop();
        }
        self.content = self.content.filter(|content| !content.is_empty());
        if self.tool_calls.is_empty() {
            self.content.get_or_insert_default();
        }
        self
    }
}

impl Delta {
    /// The first chunk's.
    pub(crate) fn opening() -> Self {
        Self {
            role: Some("assistant"),
            content: Some(String::new()),
            ..Self::default()
        }
    }
}

impl From<ReplyPart> for Delta {
    fn from(part: ReplyPart) -> Self {
        match part {
            ReplyPart::Reasoning(text) => Self {
                reasoning_content: Some(text),
                ..Self::default()
            },
            ReplyPart::Content(text) => Self {
                content: Some(text),
                ..Self::default()
            },
            ReplyPart::CallStart { index, id, name } => Self {
                tool_calls: vec![FunctionCall {
                    index: Some(index),
                    id: Some(id),
                    r#type: Some("function"),
                    function: Function {
                        name: Some(name),
                        arguments: String::new(),
                    },
                }],
                ..Self::default()
            },
            ReplyPart::CallArguments { index, delta } => Self {
                tool_calls: vec![FunctionCall {
                    index: Some(index),
                    id: None,
                    r#type: None,
                    function: Function {
                        name: None,
                        arguments: delta,
                    },
                }],
                ..Self::default()
            },
            ReplyPart::CallEnd { .. } => Self::default(),
        }
    }
}
