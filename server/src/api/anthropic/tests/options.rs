use serde_json::{Value, json};

use crate::api::anthropic::{error_body, translate};
use crate::api::protocol::tests::body;
use crate::api::protocol::{Translated, TranslationError};

fn with(options: Value) -> Result<Translated, TranslationError> {
    let mut value = json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    value.as_object_mut().unwrap().extend(body(options));
    translate(body(value))
}

#[test]
fn client_tools_become_functions_and_server_tools_are_reported() {
    let translated = with(json!({ "tools": [
        { "type": "web_search_20250305", "name": "web_search" },
        { "name": "ls", "description": "Lists.", "input_schema": { "type": "object" }, "cache_control": {}, "strict": true },
        { "type": "custom", "name": "pwd", "input_schema": { "type": "object" }, "defer_loading": true },
    ]}))
    .unwrap();
    assert_eq!(
        translated.chat["tools"],
        json!([
            { "type": "function", "function":
                { "name": "ls", "description": "Lists.", "parameters": { "type": "object" }, "strict": true } },
            { "type": "function", "function": { "name": "pwd", "parameters": { "type": "object" } } },
        ])
    );
    assert_eq!(translated.ignored, ["tools[0]"]);
    assert_eq!(
        translated
            .names
            .client("tools[0].function.parameters.properties.x"),
        "tools[1].input_schema.properties.x"
    );
    assert_eq!(
        translated.names.client("tools[1].function.name"),
        "tools[2].name"
    );
}

#[test]
fn tool_choice_forms_are_translated() {
    let named = json!({ "type": "function", "function": { "name": "ls" } });
    for (choice, expected, parallel) in [
        (json!({ "type": "auto" }), json!("auto"), None),
        (
            json!({ "type": "any", "disable_parallel_tool_use": true }),
            json!("required"),
            Some(false),
        ),
        (json!({ "type": "none" }), json!("none"), None),
        (
            json!({ "type": "tool", "name": "ls", "disable_parallel_tool_use": false }),
            named,
            Some(true),
        ),
    ] {
        let chat = with(json!({ "tool_choice": choice })).unwrap().chat;
        assert_eq!(chat["tool_choice"], expected);
        let parallel = parallel.map(Value::from);
        assert_eq!(chat.get("parallel_tool_calls"), parallel.as_ref());
    }
    let refused = |choice| {
        with(json!({ "tool_choice": choice }))
            .unwrap_err()
            .param
            .unwrap()
    };
    assert_eq!(refused(json!("auto")), "tool_choice");
    assert_eq!(refused(json!({ "type": "required" })), "tool_choice.type");
}

#[test]
fn thinking_forms_set_enable_thinking() {
    let thinks =
        |options| with(options).unwrap().chat["chat_template_kwargs"]["enable_thinking"].clone();
    assert_eq!(thinks(json!({})), false);
    assert_eq!(thinks(json!({ "thinking": null })), false);
    assert_eq!(thinks(json!({ "thinking": { "type": "disabled" } })), false);
    assert_eq!(thinks(json!({ "thinking": { "type": "adaptive" } })), true);
    assert_eq!(
        thinks(json!({ "thinking": { "type": "enabled", "budget_tokens": 99 } })),
        true
    );
    let variables = json!({ "enable_thinking": true });
    assert_eq!(thinks(json!({ "chat_template_kwargs": variables })), true);
    assert_eq!(
        thinks(json!({ "chat_template_kwargs": variables, "thinking": { "type": "disabled" } })),
        false
    );
    let refused = with(json!({ "thinking": { "type": "on" } })).unwrap_err();
    assert_eq!(refused.param.unwrap(), "thinking.type");
    let ignored = with(
        json!({ "thinking": { "type": "enabled", "budget_tokens": 99, "display": "summarized" } }),
    );
    assert_eq!(ignored.unwrap().ignored, ["thinking.budget_tokens"]);
}

#[test]
fn effort_counts_only_while_thinking() {
    let effort = json!({ "effort": "high" });
    let on = with(json!({ "thinking": { "type": "adaptive" }, "output_config": effort })).unwrap();
    assert_eq!(on.chat["reasoning_effort"], "high");
    assert_eq!(on.names.client("reasoning_effort"), "output_config.effort");
    let off = with(json!({ "output_config": effort })).unwrap();
    assert!(!off.chat.contains_key("reasoning_effort"));
    assert_eq!(off.ignored, ["output_config.effort"]);
}

#[test]
fn output_format_becomes_response_format() {
    let format = json!({ "type": "json_schema", "schema": { "type": "object" } });
    let expected = json!({ "type": "json_schema",
        "json_schema": { "name": "output", "strict": true, "schema": { "type": "object" } } });
    let newer = with(json!({ "output_config": { "format": format } })).unwrap();
    assert_eq!(newer.chat["response_format"], expected);
    assert_eq!(
        newer
            .names
            .client("response_format.json_schema.schema.type"),
        "output_config.format.schema.type"
    );
    let older = with(json!({ "output_format": format })).unwrap();
    assert_eq!(older.chat["response_format"], expected);
}

#[test]
fn claude_code_body_is_accepted() {
    let translated = with(json!({
        "model": "claude-x", "max_tokens": 32000, "stream": true, "thinking": { "type": "adaptive" },
        "output_config": { "effort": "high" }, "context_management": { "edits": [] }, "metadata": { "user_id": "{}" },
    }))
    .unwrap();
    assert_eq!(translated.ignored, ["context_management"]);
    let fields: Vec<&String> = translated.chat.keys().collect();
    assert_eq!(
        fields,
        [
            "model",
            "messages",
            "chat_template_kwargs",
            "reasoning_effort",
            "stream",
            "max_tokens"
        ]
    );
}

#[test]
fn error_types_follow_status() {
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ] {
        let expected = json!({ "type": "error", "error": { "type": kind, "message": "why" }, "request_id": "req_1" });
        assert_eq!(error_body(status, "why", "req_1"), expected);
    }
}
