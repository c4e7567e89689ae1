//! `text` and `reasoning`: how the answer is formatted, and how much the model thinks.

use serde_json::{Map, Value, json};

use super::response::{RepeatedFields, short_text};
use crate::api::client_path::Path;
use crate::api::names::Names;
use crate::api::protocol::{ProtocolFields, TranslationError, required_object};

/// Characters of the name of a format, and of a verbosity: the response repeats them.
const LONGEST_NAME: usize = 512;
/// Characters of the description of a format.
const LONGEST_DESCRIPTION: usize = 16 << 10;

/// Translates `text` to `response_format` and `verbosity`, and `reasoning` to `reasoning_effort`. The answer repeats `text`.
pub(crate) fn translate(
    fields: &mut ProtocolFields,
    chat: &mut Map<String, Value>,
    names: &mut Names,
    echo: &mut RepeatedFields,
    ignored: &mut Vec<String>,
) -> Result<(), TranslationError> {
    let mut text = fields.take_object("text")?;
    let path = Path::root("text");
    let mut repeated = Map::new();
    repeated.insert("format".into(), json!({ "type": "text" }));
    if let Some(format) = text.remove("format").filter(|format| !format.is_null()) {
        let path = path.field("format");
        names.insert("response_format", &path);
        names.insert("response_format.json_schema", &path);
        let (flat, nested) = response_format(&format, &path)?;
        repeated.insert("format".into(), flat);
        if let Some(format) = nested {
            chat.insert("response_format".into(), format);
        }
    }
    if let Some(verbosity) = text.remove("verbosity").filter(|value| !value.is_null()) {
        let path = path.field("verbosity");
        names.insert("verbosity", &path);
        let verbosity = short_text(&verbosity, &path, LONGEST_NAME)?;
        repeated.insert("verbosity".into(), verbosity.clone());
        chat.insert("verbosity".into(), verbosity);
    }
    echo.set("text", repeated.into());

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

/// The format as the answer repeats it and as chat completions have it: the schema is flat in Responses and nested there.
fn response_format(
    format: &Value,
    path: &Path,
) -> Result<(Value, Option<Value>), TranslationError> {
    let format = required_object(format, path)?;
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok((json!({ "type": "text" }), None)),
        Some("json_object") => {
            let format = json!({ "type": "json_object" });
            Ok((format.clone(), Some(format)))
        }
        Some("json_schema") => {
            let mut schema = Map::new();
            for name in ["name", "description", "schema", "strict"] {
                let Some(value) = format.get(name).filter(|value| !value.is_null()) else {
                    continue;
                };
                match name {
                    "name" => short_text(value, &path.field(name), LONGEST_NAME)?,
                    "description" => short_text(value, &path.field(name), LONGEST_DESCRIPTION)?,
                    _ => Value::Null,
                };
                schema.insert(name.into(), value.clone());
            }
            let mut flat = schema.clone();
            flat.insert("type".into(), "json_schema".into());
            let nested = json!({ "type": "json_schema", "json_schema": schema });
            Ok((flat.into(), Some(nested)))
        }
        _ => Err(TranslationError::must_be(
            &path.field("type"),
            "\"text\", \"json_object\" or \"json_schema\"",
        )),
    }
}
