//! Content blocks of user and assistant turns, translated to messages.

use serde_json::{Map, Value};

use crate::api::client_path::Path;
use crate::api::protocol::{Message, ToolCall, TranslationError, required_object, text};

/// The line that the output of a failed tool begins with.
pub(crate) const TOOL_ERROR: &str = "The tool call failed:\n";

/// A user turn: the outputs of tools, and then what the user says.
#[derive(Debug)]
pub(crate) struct UserTurn {
    /// A `tool` message for each `tool_result` block.
    pub results: Vec<Message>,
    /// The text blocks, as a user message.
    pub text: Message,
}

/// Translates the content of a user turn.
pub(crate) fn user(content: &Value, path: Path) -> Result<UserTurn, TranslationError> {
    let place = path.field("content");
    if let Value::String(text) = content {
        let mut text = Message::of_text("user", text, place);
        text.path = path;
        let results = Vec::new();
        return Ok(UserTurn { results, text });
    }
    let mut turn = UserTurn {
        results: Vec::new(),
        text: Message::new("user", path),
    };
    for (index, block) in blocks(content, &place)?.iter().enumerate() {
        let path = place.index(index);
        let block = required_object(block, &path)?;
        match text(block, "type", &path)? {
            "text" => {
                let text = text(block, "text", &path)?;
                turn.text.push_separated("\n", text, path.field("text"));
            }
            "tool_result" => turn.results.push(tool_result(block, path)?),
            kind => return Err(unsupported(kind, &path)),
        }
    }
    Ok(turn)
}

/// Translates the content of an assistant turn.
pub(crate) fn assistant(content: &Value, path: Path) -> Result<Message, TranslationError> {
    let place = path.field("content");
    if let Value::String(text) = content {
        let mut message = Message::of_text("assistant", text, place);
        message.path = path;
        return Ok(message);
    }
    let mut message = Message::new("assistant", path);
    for (index, block) in blocks(content, &place)?.iter().enumerate() {
        let path = place.index(index);
        let block = required_object(block, &path)?;
        match text(block, "type", &path)? {
            "text" => message.push_text(text(block, "text", &path)?, path.field("text")),
            "thinking" => {
                let thinking = text(block, "thinking", &path)?;
                if !thinking.is_empty() {
                    message.push_reasoning(thinking, path.field("thinking"));
                }
            }
            "redacted_thinking" => {}
            "tool_use" => message.push_call(tool_use(block, path)?),
            kind => return Err(unsupported(kind, &path)),
        }
    }
    Ok(message)
}

fn blocks<'a>(content: &'a Value, path: &Path) -> Result<&'a [Value], TranslationError> {
    match content {
        Value::Null => Err(TranslationError::missing(path)),
        Value::Array(blocks) => Ok(blocks),
        _ => Err(TranslationError::must_be(
            path,
            "a string or an array of content blocks",
        )),
    }
}

fn tool_use(block: &Map<String, Value>, path: Path) -> Result<ToolCall, TranslationError> {
    let arguments = match block.get("input") {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(input @ Value::Object(_)) => input.to_string(),
        Some(_) => return Err(TranslationError::must_be(&path.field("input"), "an object")),
    };
    Ok(ToolCall {
        id: block.get("id").cloned(),
        name: block.get("name").cloned(),
        arguments: Some(arguments.into()),
        id_path: path.field("id"),
        arguments_path: path.field("input"),
        path,
    })
}

fn tool_result(block: &Map<String, Value>, path: Path) -> Result<Message, TranslationError> {
    let id = text(block, "tool_use_id", &path)?;
    let mut message = Message::tool(id, path.clone());
    if block.get("is_error") == Some(&Value::Bool(true)) {
        message.push_text(TOOL_ERROR, path.field("is_error"));
    }
    let place = path.field("content");
    match block.get("content") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => message.push_text(text, place),
        Some(content) => {
            for (index, block) in blocks(content, &place)?.iter().enumerate() {
                let path = place.index(index);
                let block = required_object(block, &path)?;
                match text(block, "type", &path)? {
                    "text" => {
                        let text = text(block, "text", &path)?;
                        message.push_separated("\n", text, path.field("text"));
                    }
                    kind => return Err(unsupported(kind, &path)),
                }
            }
        }
    }
    Ok(message)
}

fn unsupported(kind: &str, path: &Path) -> TranslationError {
    match kind {
        "image" | "document" | "container_upload" => {
            TranslationError::unsupported(path, "this model reads text only; remove the block")
        }
        _ => TranslationError::unsupported(
            &path.field("type"),
            "no such block is read in this place; send text, and tool_use blocks in assistant or tool_result blocks in \
             user messages",
        ),
    }
}
