//! Items of the input, translated to messages.

use serde_json::{Map, Value};

use crate::api::client_path::Path;
use crate::api::names::Names;
use crate::api::protocol::{
    ChatMessages, Message, ToolCall, TranslationError, required_object, text,
};

/// Translates items to messages and adds them to `conversation`. Items that belong to one assistant turn become one
/// message.
pub(crate) fn translate<'a>(
    items: impl Iterator<Item = (&'a Value, Path)>,
    conversation: &mut ChatMessages,
    names: &mut Names,
) -> Result<(), TranslationError> {
    let mut turn: Option<Message> = None;
    for (item, path) in items {
        match Item::read(item, path)? {
            Item::Assistant(piece, path) => {
                let turn = turn.get_or_insert_with(|| Message::new("assistant", path.clone()));
                piece.add_to(turn, &path)?;
            }
            Item::Message(message) => {
                if let Some(turn) = turn.take() {
                    conversation.push(turn, names);
                }
                conversation.push(message, names);
            }
        }
    }
    if let Some(turn) = turn {
        conversation.push(turn, names);
    }
    Ok(())
}

enum Item<'a> {
    /// Part of an assistant turn.
    Assistant(Piece<'a>, Path),
    /// A message of its own.
    Message(Message),
}

enum Piece<'a> {
    Reasoning(&'a Map<String, Value>),
    Content(&'a Value),
    Call(&'a Map<String, Value>),
}

impl<'a> Item<'a> {
    fn read(item: &'a Value, path: Path) -> Result<Self, TranslationError> {
        if let Value::String(text) = item {
            return Ok(Self::Message(Message::of_text("user", text, path)));
        }
        let map = required_object(item, &path)?;
        match map.get("type").filter(|kind| !kind.is_null()) {
            None => Self::message(map, path),
            Some(kind) => match kind.as_str() {
                Some("message") => Self::message(map, path),
                Some("reasoning") => Ok(Self::Assistant(Piece::Reasoning(map), path)),
                Some("function_call") => Ok(Self::Assistant(Piece::Call(map), path)),
                Some("function_call_output") => output(map, path).map(Self::Message),
                Some("item_reference") => Err(TranslationError::unsupported(
                    &path,
                    "items are not stored one by one; send the item itself, or `previous_response_id`",
                )),
                Some(_) => Err(TranslationError::unsupported(
                    &path.field("type"),
                    "send items of the types \"message\", \"reasoning\", \"function_call\" and \"function_call_output\"",
                )),
                None => Err(TranslationError::must_be(&path.field("type"), "a string")),
            },
        }
    }

    fn message(map: &'a Map<String, Value>, path: Path) -> Result<Self, TranslationError> {
        let role = match text(map, "role", &path)? {
            "user" => "user",
            "system" => "system",
            "developer" => "developer",
            "assistant" => {
                let content = map.get("content").unwrap_or(&Value::Null);
                return Ok(Self::Assistant(Piece::Content(content), path));
            }
            _ => {
                let roles = "\"user\", \"assistant\", \"system\" or \"developer\"";
                return Err(TranslationError::must_be(&path.field("role"), roles));
            }
        };
        let place = path.field("content");
        match map.get("content").filter(|content| !content.is_null()) {
            None => Err(TranslationError::missing(&place)),
            Some(Value::String(text)) => {
                let mut message = Message::of_text(role, text, place);
                message.path = path;
                Ok(Self::Message(message))
            }
            Some(content) => {
                let mut message = Message::new(role, path);
                for (text, path) in parts(content, &place)? {
                    message.push_text(text, path);
                }
                Ok(Self::Message(message))
            }
        }
    }
}

impl Piece<'_> {
    fn add_to(self, turn: &mut Message, path: &Path) -> Result<(), TranslationError> {
        match self {
            Self::Reasoning(item) => {
                for (text, path) in reasoning(item, path)? {
                    turn.push_reasoning(text, path);
                }
            }
            Self::Content(content) => {
                for (index, (text, path)) in parts(content, &path.field("content"))?
                    .into_iter()
                    .enumerate()
                {
                    match index {
                        // Separate messages of a turn are separate paragraphs.
                        0 => turn.push_separated("\n\n", text, path),
                        _ => turn.push_text(text, path),
                    }
                }
            }
            Self::Call(item) => turn.push_call(ToolCall {
                id: item.get("call_id").cloned(),
                name: item.get("name").cloned(),
                arguments: item.get("arguments").cloned(),
                path: path.clone(),
                id_path: path.field("call_id"),
                arguments_path: path.field("arguments"),
            }),
        }
        Ok(())
    }
}

fn output(item: &Map<String, Value>, path: Path) -> Result<Message, TranslationError> {
    let mut message = Message::tool(text(item, "call_id", &path)?, path.clone());
    let path = path.field("output");
    match item.get("output").filter(|output| !output.is_null()) {
        None => return Err(TranslationError::missing(&path)),
        Some(output) => {
            for (text, path) in parts(output, &path)? {
                message.push_text(text, path);
            }
        }
    }
    Ok(message)
}

/// The texts of a content, which is a string or an array of parts, and their paths. Null is no text.
fn parts<'a>(content: &'a Value, path: &Path) -> Result<Vec<(&'a str, Path)>, TranslationError> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![(text, path.clone())]),
        Value::Array(parts) => {
            let parts = parts.iter().enumerate();
            parts
                .map(|(index, value)| part(value, path.index(index)))
                .collect()
        }
        _ => Err(TranslationError::must_be(
            path,
            "a string or an array of parts",
        )),
    }
}

fn part(part: &Value, path: Path) -> Result<(&str, Path), TranslationError> {
    let map = required_object(part, &path)?;
    let member = match text(map, "type", &path)? {
        "input_text" | "output_text" | "text" => "text",
        "refusal" => "refusal",
        "input_image" | "input_file" | "input_audio" => {
            return Err(TranslationError::unsupported(
                &path,
                "this model reads text only; remove the part",
            ));
        }
        _ => {
            let kinds = "\"input_text\", \"output_text\" or \"refusal\"";
            return Err(TranslationError::must_be(&path.field("type"), kinds));
        }
    };
    Ok((text(map, member, &path)?, path.field(member)))
}

/// The texts of a reasoning item: its content or, where there is none, its summaries.
fn reasoning<'a>(
    item: &'a Map<String, Value>,
    path: &Path,
) -> Result<Vec<(&'a str, Path)>, TranslationError> {
    for member in ["content", "summary"] {
        let path = path.field(member);
        let parts = match item.get(member) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(parts)) if parts.is_empty() => continue,
            Some(Value::Array(parts)) => parts,
            Some(_) => return Err(TranslationError::must_be(&path, "an array of parts")),
        };
        let parts = parts.iter().enumerate().map(|(index, part)| {
            let path = path.index(index);
            let part = required_object(part, &path)?;
            Ok((text(part, "text", &path)?, path.field("text")))
        });
        return parts.collect();
    }
    Ok(Vec::new())
}
