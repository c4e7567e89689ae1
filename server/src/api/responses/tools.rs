//! `tools` and `tool_choice`: flat in Responses, nested in chat completions.

use serde_json::{Map, Value, json};

use super::response::RepeatedFields;
use crate::api::client_path::Path;
use crate::api::names::Names;
use crate::api::protocol::{ProtocolFields, TranslationError, required_object};

/// Translates `tools` and `tool_choice`. The answer repeats the tools that are in effect.
pub(crate) fn translate(
    fields: &mut ProtocolFields,
    chat: &mut Map<String, Value>,
    names: &mut Names,
    echo: &mut RepeatedFields,
    ignored: &mut Vec<String>,
) -> Result<(), TranslationError> {
    let mut functions = Vec::new();
    let mut echoed = Vec::new();
    for (index, tool) in fields.take_array("tools")?.iter().enumerate() {
        let path = Path::root("tools").index(index);
        let tool = required_object(tool, &path)?;
        if tool.get("type").and_then(Value::as_str) != Some("function") {
            ignored.push(path.to_string());
            continue;
        }
        let place = format!("tools[{}]", functions.len());
        names.insert(place.as_str(), &path);
        names.insert(format!("{place}.function"), &path);
        functions.push(function(tool));
        echoed.push(json!({
            "type": "function",
            "name": tool.get("name"),
            "description": tool.get("description"),
            "parameters": tool.get("parameters"),
            "strict": tool.get("strict").unwrap_or(&Value::Null),
        }));
    }
    if !functions.is_empty() {
        chat.insert("tools".into(), functions.into());
        echo.set("tools", echoed.into());
    }
    if let Some(choice) = fields.take("tool_choice") {
        let path = Path::root("tool_choice");
        names.insert("tool_choice.function", &path);
        names.insert("tool_choice.allowed_tools", &path);
        let (flat, nested) = tool_choice(choice, &path, ignored)?;
        chat.insert("tool_choice".into(), nested);
        echo.set("tool_choice", flat);
    }
    Ok(())
}

/// `strict` stays absent where it is absent: a schema that was not written for strict mode is not held to it.
fn function(tool: &Map<String, Value>) -> Value {
    let mut function = Map::new();
    for name in ["name", "description", "parameters", "strict"] {
        if let Some(value) = tool.get(name).filter(|value| !value.is_null()) {
            function.insert(name.into(), value.clone());
        }
    }
    json!({ "type": "function", "function": function })
}

/// The choice as the answer repeats it, and as chat completions have it.
fn tool_choice(
    choice: Value,
    path: &Path,
    ignored: &mut Vec<String>,
) -> Result<(Value, Value), TranslationError> {
    let Some(map) = choice.as_object() else {
        // A word, which the chat parser checks.
        return Ok((choice.clone(), choice));
    };
    match map.get("type").and_then(Value::as_str) {
        Some("function") => Ok((flat(map), named(map))),
        Some("allowed_tools") => {
            let path = path.field("tools");
            let tools = match map.get("tools") {
                Some(Value::Array(tools)) => tools,
                None | Some(Value::Null) => return Err(TranslationError::missing(&path)),
                Some(_) => return Err(TranslationError::must_be(&path, "an array")),
            };
            let (mut allowed, mut repeated) = (Vec::new(), Vec::new());
            for (index, tool) in tools.iter().enumerate() {
                let path = path.index(index);
                let tool = required_object(tool, &path)?;
                if tool.get("type").and_then(Value::as_str) == Some("function") {
                    allowed.push(named(tool));
                    repeated.push(flat(tool));
                } else {
                    ignored.push(path.to_string());
                }
            }
            let mode = map.get("mode");
            Ok((
                json!({ "type": "allowed_tools", "mode": mode, "tools": repeated }),
                json!({
                    "type": "allowed_tools",
                    "allowed_tools": { "mode": mode, "tools": allowed },
                }),
            ))
        }
        _ => Err(TranslationError::unsupported(
            &path.field("type"),
            "only functions can be called; send \"function\" or \"allowed_tools\"",
        )),
    }
}

fn flat(tool: &Map<String, Value>) -> Value {
    json!({ "type": "function", "name": tool.get("name") })
}

fn named(tool: &Map<String, Value>) -> Value {
    json!({ "type": "function", "function": { "name": tool.get("name") } })
}
