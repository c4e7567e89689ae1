//! `text` and `reasoning`: how the answer is formatted, and how much the model thinks.

use serde_json::{Map, Value, json};

use crate::api::client_path::Path;
use crate::api::names::Names;
use crate::api::protocol::{ProtocolFields, TranslationError, required_object};

/// Translates `text` to `response_format` and `verbosity`, and `reasoning` to `reasoning_effort`.
pub(crate) fn translate(
    fields: &mut ProtocolFields,
    chat: &mut Map<String, Value>,
    names: &mut Names,
    ignored: &mut Vec<String>,
) -> Result<(), TranslationError> {
    let mut text = fields.take_object("text")?;
    let path = Path::root("text");
    if let Some(format) = text.remove("format").filter(|format| !format.is_null()) {
        let path = path.field("format");
        names.insert("response_format", &path);
        names.insert("response_format.json_schema", &path);
        if let Some(format) = response_format(&format, &path)? {
            chat.insert("response_format".into(), format);
        }
    }
    if let Some(verbosity) = text.remove("verbosity").filter(|value| !value.is_null()) {
        names.insert("verbosity", &path.field("verbosity"));
        chat.insert("verbosity".into(), verbosity);
    }

    let mut reasoning = fields.take_object("reasoning")?;
    let path = Path::root("reasoning");
    if let Some(effort) = reasoning.remove("effort").filter(|value| !value.is_null()) {
        names.insert("reasoning_effort", &path.field("effort"));
        chat.insert("reasoning_effort".into(), effort);
    }
    // The reasoning itself is sent, not a summary of it.
    if reasoning
        .get("summary")
        .is_some_and(|summary| !summary.is_null())
    {
        ignored.push(path.field("summary").to_string());
    }
    Ok(())
}

/// The schema is flat in Responses and nested in chat completions.
fn response_format(format: &Value, path: &Path) -> Result<Option<Value>, TranslationError> {
    let format = required_object(format, path)?;
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({ "type": "json_object" }))),
        Some("json_schema") => {
            let mut schema = Map::new();
            for name in ["name", "description", "schema", "strict"] {
                if let Some(value) = format.get(name).filter(|value| !value.is_null()) {
                    schema.insert(name.into(), value.clone());
                }
            }
            Ok(Some(
                json!({ "type": "json_schema", "json_schema": schema }),
            ))
        }
        _ => Err(TranslationError::must_be(
            &path.field("type"),
            "\"text\", \"json_object\" or \"json_schema\"",
        )),
    }
}
