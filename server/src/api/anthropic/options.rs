//! `thinking` and `output_config`: whether and how much the model thinks, and how the answer is formatted.

use serde_json::{Map, Value, json};

use crate::api::client_path::Path;
use crate::api::names::Names;
use crate::api::protocol::{ProtocolFields, TranslationError, required_object};

/// Translates `thinking` and `output_config`.
pub(crate) fn translate(
    fields: &mut ProtocolFields,
    chat: &mut Map<String, Value>,
    names: &mut Names,
    ignored: &mut Vec<String>,
) -> Result<(), TranslationError> {
    let thinks = thinking(fields, chat, names, ignored)?;
    let mut config = fields.take_object("output_config")?;
    let path = Path::root("output_config");
    if let Some(effort) = config.remove("effort").filter(|effort| !effort.is_null()) {
        let path = path.field("effort");
        // In a chat body the effort also turns thinking on.
        if thinks {
            names.insert("reasoning_effort", &path);
            chat.insert("reasoning_effort".into(), effort);
        } else {
            ignored.push(path.to_string());
        }
    }
    let format = config.remove("format").filter(|format| !format.is_null());
    // The name of the field before it moved into `output_config`.
    let older = fields.take("output_format");
    let format = format
        .map(|format| (format, path.field("format")))
        .or(older.map(|format| (format, Path::root("output_format"))));
    if let Some((format, path)) = format {
        names.insert("response_format", &path);
        names.insert("response_format.json_schema", &path);
        chat.insert("response_format".into(), response_format(&format, &path)?);
    }
    Ok(())
}

/// Translates `thinking`. Returns whether the model thinks. Without `thinking` it does not, whatever the server's
/// default is, unless `chat_template_kwargs` says so: a client of this protocol that sends no `thinking` expects no
/// `thinking` blocks.
fn thinking(
    fields: &mut ProtocolFields,
    chat: &mut Map<String, Value>,
    names: &mut Names,
    ignored: &mut Vec<String>,
) -> Result<bool, TranslationError> {
    let path = Path::root("thinking");
    let thinking = fields.take("thinking");
    let mut variables = fields.take_object("chat_template_kwargs")?;
    let thinks = match &thinking {
        None => match variables.get("enable_thinking") {
            None | Some(Value::Null) => false,
            Some(enable) => *enable != Value::Bool(false),
        },
        Some(thinking) => {
            let thinking = required_object(thinking, &path)?;
            for (name, default) in [("budget_tokens", ""), ("display", "summarized")] {
                let value = thinking.get(name).filter(|value| !value.is_null());
                if value.is_some_and(|value| value != default) {
                    ignored.push(path.field(name).to_string());
                }
            }
            match thinking.get("type").and_then(Value::as_str) {
                Some("enabled" | "adaptive") => true,
                Some("disabled") => false,
                _ => {
                    let kinds = "\"enabled\", \"adaptive\" or \"disabled\"";
                    return Err(TranslationError::must_be(&path.field("type"), kinds));
                }
            }
        }
    };
    let given = variables
        .get("enable_thinking")
        .is_some_and(|value| !value.is_null());
    if thinking.is_some() || !given {
        names.insert("chat_template_kwargs.enable_thinking", &path.field("type"));
        variables.insert("enable_thinking".into(), thinks.into());
    }
    chat.insert("chat_template_kwargs".into(), variables.into());
    Ok(thinks)
}

fn response_format(format: &Value, path: &Path) -> Result<Value, TranslationError> {
    let format = required_object(format, path)?;
    if format.get("type").and_then(Value::as_str) != Some("json_schema") {
        return Err(TranslationError::must_be(
            &path.field("type"),
            "\"json_schema\"",
        ));
    }
    // A chat schema needs a name; a Messages schema has none.
    Ok(json!({
        "type": "json_schema",
        "json_schema": { "name": "output", "strict": true, "schema": format.get("schema") },
    }))
}
