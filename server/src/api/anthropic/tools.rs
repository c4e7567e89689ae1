//! `tools` and `tool_choice`.

use serde_json::{Map, Value, json};

use crate::api::client_path::Path;
use crate::api::names::Names;
use crate::api::protocol::{ProtocolFields, TranslationError, required_object};

/// The members of a client tool and their names in a chat function.
const MEMBERS: [(&str, &str); 4] = [
    ("name", "name"),
    ("description", "description"),
    ("input_schema", "parameters"),
    ("strict", "strict"),
];

/// Translates `tools` and `tool_choice`.
pub(crate) fn translate(
    fields: &mut ProtocolFields,
    chat: &mut Map<String, Value>,
    names: &mut Names,
    ignored: &mut Vec<String>,
) -> Result<(), TranslationError> {
    let mut functions = Vec::new();
    for (index, tool) in fields.take_array("tools")?.iter().enumerate() {
        let path = Path::root("tools").index(index);
        let tool = required_object(tool, &path)?;
        // A type such as `web_search_20250305` names a tool whose schema only Anthropic's servers know.
        let kind = tool.get("type").filter(|kind| !kind.is_null());
        if kind.is_some_and(|kind| kind != "custom") {
            ignored.push(path.to_string());
            continue;
        }
        if tool.get("input_schema").is_none_or(Value::is_null) {
            return Err(TranslationError::missing(&path.field("input_schema")));
        }
        let place = format!("tools[{}]", functions.len());
        names.insert(place.as_str(), &path);
        names.insert(format!("{place}.function"), &path);
        let mut function = Map::new();
        for (member, name) in MEMBERS {
            names.insert(format!("{place}.function.{name}"), &path.field(member));
            if let Some(value) = tool.get(member).filter(|value| !value.is_null()) {
                function.insert(name.into(), value.clone());
            }
        }
        functions.push(json!({ "type": "function", "function": function }));
    }
    if !functions.is_empty() {
        chat.insert("tools".into(), functions.into());
    }
    if let Some(choice) = fields.take("tool_choice") {
        let path = Path::root("tool_choice");
        let choice = required_object(&choice, &path)?;
        names.insert("tool_choice.function", &path);
        let parallel = path.field("disable_parallel_tool_use");
        match choice.get("disable_parallel_tool_use") {
            None | Some(Value::Null) => {}
            Some(Value::Bool(disable)) => {
                names.insert("parallel_tool_calls", &parallel);
                chat.insert("parallel_tool_calls".into(), (!disable).into());
            }
            Some(_) => return Err(TranslationError::must_be(&parallel, "true or false")),
        }
        chat.insert("tool_choice".into(), tool_choice(choice, &path)?);
    }
    Ok(())
}

fn tool_choice(choice: &Map<String, Value>, path: &Path) -> Result<Value, TranslationError> {
    match choice.get("type").and_then(Value::as_str) {
        Some("auto") => Ok("auto".into()),
        Some("any") => Ok("required".into()),
        Some("none") => Ok("none".into()),
        Some("tool") => Ok(json!({
            "type": "function",
            "function": { "name": choice.get("name") },
        })),
        _ => Err(TranslationError::must_be(
            &path.field("type"),
            "\"auto\", \"any\", \"tool\" or \"none\"",
        )),
    }
}
