//! The response object around the output items.

use serde_json::{Map, Value, json};

use crate::api::protocol::{AnswerUsage, ProtocolFields};

/// What a response repeats of its request, with the defaults of what the request left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RepeatedFields(Map<String, Value>);

/// Repeated as they came.
const REPEATED: [&str; 11] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "temperature",
    "text",
    "top_p",
    "user",
];

impl RepeatedFields {
    /// Reads what is repeated, before the fields are taken. Values are valid once the chat parser accepted the request.
    pub(crate) fn before(fields: &ProtocolFields) -> Self {
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
        if let Some(text) = map.get_mut("text").and_then(Value::as_object_mut)
            && text.get("format").is_none_or(Value::is_null)
        {
            text.insert("format".into(), json!({ "type": "text" }));
        }
        if let Some(effort) = fields
            .get("reasoning")
            .and_then(|reasoning| reasoning.get("effort"))
        {
            map["reasoning"]["effort"] = effort.clone();
        }
        Self(map)
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
