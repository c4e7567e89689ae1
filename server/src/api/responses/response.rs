//! The response object around the output items.

use serde_json::{Map, Value, json};

use crate::api::client_path::Path;
use crate::api::protocol::{AnswerUsage, ProtocolFields, TranslationError};

/// Characters of a short text that is repeated: a name, an id.
const LONGEST_TEXT: usize = 512;
/// OpenAI's limits on `metadata`: pairs, and characters of a key and of a value.
const MOST_PAIRS: usize = 16;
const LONGEST_KEY: usize = 64;
const LONGEST_VALUE: usize = 512;

/// What a response repeats of its request, with the defaults of what the request left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RepeatedFields(Map<String, Value>);

/// Repeated as they came; the chat parser checks them.
const REPEATED: [&str; 5] = [
    "instructions",
    "max_output_tokens",
    "parallel_tool_calls",
    "temperature",
    "top_p",
];
/// Repeated as they came, and read by nothing: short texts.
const REPEATED_TEXTS: [&str; 4] = [
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "user",
];

impl RepeatedFields {
    /// Reads what is repeated, before the fields are taken. Values are valid once the chat parser accepted the request.
    ///
    /// # Errors
    /// A value that nothing else checks, and that is too long to be repeated in several events and kept.
    pub(crate) fn before(fields: &ProtocolFields) -> Result<Self, TranslationError> {
        let Value::Object(mut map) = json!({
            "background": false,
            "instructions": null,
            "max_output_tokens": null,
            "metadata": {},
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": { "effort": null, "summary": null },
            "store": true,
            "temperature": null,
            "text": { "format": { "type": "text" } },
            "tool_choice": "auto",
            "tools": [],
            "top_p": null,
            "truncation": "disabled",
        }) else {
            unreachable!("an object was written");
        };
        for name in REPEATED {
            if let Some(value) = fields.get(name) {
                map.insert(name.into(), value.clone());
            }
        }
        for name in REPEATED_TEXTS {
            // Another value than a text is accepted and not repeated, since it has no effect.
            if let Some(value) = fields.get(name).filter(|value| value.is_string()) {
                let text = short_text(value, &Path::root(name), LONGEST_TEXT)?;
                map.insert(name.into(), text);
            }
        }
        if let Some(value) = fields.get("metadata") {
            map.insert("metadata".into(), metadata(value)?);
        }
        if let Some(effort) = fields
            .get("reasoning")
            .and_then(|reasoning| reasoning.get("effort"))
        {
            map["reasoning"]["effort"] = effort.clone();
        }
        Ok(Self(map))
    }

    /// Sets a field whose value depends on the translation.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// A response in progress, without output. `created_at` is Unix time in seconds.
    pub(crate) fn into_response(
        self,
        id: &str,
        model: &str,
        created_at: u64,
    ) -> Map<String, Value> {
        let Value::Object(mut response) = json!({
            "id": id,
            "object": "response",
            "created_at": created_at,
            "status": "in_progress",
            "error": null,
            "incomplete_details": null,
            "model": model,
            "output": [],
            "usage": null,
        }) else {
            unreachable!("an object was written");
        };
        response.extend(self.0);
        response
    }
}

/// `metadata`, within OpenAI's limits.
fn metadata(value: &Value) -> Result<Value, TranslationError> {
    let path = Path::root("metadata");
    let pairs = value.as_object();
    let keys = pairs.filter(|pairs| pairs.len() <= MOST_PAIRS);
    let is_short = |key: &String| key.chars().count() <= LONGEST_KEY;
    let Some(pairs) = keys.filter(|pairs| pairs.keys().all(is_short)) else {
        let what = format!(
            "an object of at most {MOST_PAIRS} members, whose names have at most {LONGEST_KEY} characters"
        );
        return Err(TranslationError::must_be(&path, &what));
    };
    let mut kept = Map::new();
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_null()) {
        let value = short_text(value, &path.field(key), LONGEST_VALUE)?;
        kept.insert(key.clone(), value);
    }
    Ok(kept.into())
}

/// A string of so many characters at most.
pub(crate) fn short_text(
    value: &Value,
    path: &Path,
    most: usize,
) -> Result<Value, TranslationError> {
    match value {
        Value::String(text) if text.chars().count() <= most => Ok(value.clone()),
        _ => {
            let what = format!("a string of at most {most} characters");
            Err(TranslationError::must_be(path, &what))
        }
    }
}

/// The answer to the deletion of a response.
pub(crate) fn deletion_answer(id: &str) -> Value {
    json!({ "id": id, "object": "response", "deleted": true })
}

/// `usage` of a finished response.
pub(crate) fn usage(usage: AnswerUsage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": { "cached_tokens": usage.cached, "cache_write_tokens": 0 },
        "output_tokens": usage.completion,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": usage.prompt + usage.completion,
    })
}
