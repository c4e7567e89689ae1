use serde_json::{Value, json};

use crate::api::protocol::tests::body;
use crate::api::protocol::{Translated, TranslationError};
use crate::api::responses::{ResponsesRequest, translate};

fn request(value: Value) -> Result<ResponsesRequest, TranslationError> {
    translate(body(value), &mut |_| None)
}

fn translated(value: Value) -> Translated {
    request(value).unwrap().translated
}

fn refused_param(value: Value) -> String {
    request(value).unwrap_err().param.unwrap()
}

#[test]
fn string_input_with_instructions_becomes_system_and_user_message() {
    let translated = translated(json!({
        "model": "m", "input": "hi", "instructions": "be brief", "max_output_tokens": 9, "temperature": 0.5, "seed": 7,
        "stream": true, "user": null,
    }));
    let expected = json!({
        "model": "m",
        "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": "hi" },
        ],
        "max_completion_tokens": 9,
        "continue_final_message": false,
        "temperature": 0.5,
        "seed": 7,
        "stream": true,
    });
    assert_eq!(Value::Object(translated.chat), expected);
    assert!(translated.ignored.is_empty());
    let names = translated.names;
    assert_eq!(names.client("messages[0].content"), "instructions");
    assert_eq!(names.client("messages[1].content"), "input");
    assert_eq!(names.client("max_completion_tokens"), "max_output_tokens");
    assert_eq!(names.client("temperature"), "temperature");
}

#[test]
fn neighbouring_assistant_items_become_one_message() {
    let translated = translated(json!({ "input": [
        { "role": "user", "content": "hi" },
        { "type": "message", "role": "developer", "content": [{ "type": "input_text", "text": "be brief" }] },
        { "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": null,
          "content": [{ "type": "reasoning_text", "text": "Run it." }] },
        { "type": "message", "role": "assistant", "status": "completed", "id": "msg_1",
          "content": [{ "type": "output_text", "text": "Hello.", "annotations": [] }] },
        { "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "ls", "arguments": "{\"dir\": \".\"}",
          "status": "completed" },
        { "type": "function_call", "call_id": "call_2", "name": "pwd", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "call_1", "output": "a.txt" },
        { "type": "function_call_output", "call_id": "call_2",
          "output": [{ "type": "input_text", "text": "/" }, { "type": "input_text", "text": "tmp" }] },
        { "role": "assistant", "content": "Done." },
    ]}));
    let expected = json!([
        { "role": "user", "content": "hi" },
        { "role": "developer", "content": [{ "type": "text", "text": "be brief" }] },
        { "role": "assistant", "reasoning_content": "Run it.", "content": [{ "type": "text", "text": "Hello." }],
          "tool_calls": [
            { "id": "call_1", "type": "function", "function": { "name": "ls", "arguments": "{\"dir\": \".\"}" } },
            { "id": "call_2", "type": "function", "function": { "name": "pwd", "arguments": "{}" } },
        ]},
        { "role": "tool", "content": [{ "type": "text", "text": "a.txt" }], "tool_call_id": "call_1" },
        { "role": "tool", "tool_call_id": "call_2",
          "content": [{ "type": "text", "text": "/" }, { "type": "text", "text": "tmp" }] },
        { "role": "assistant", "content": [{ "type": "text", "text": "Done." }] },
    ]);
    assert_eq!(translated.chat["messages"], expected);
    for (chat, client) in [
        ("messages[0].content", "input[0].content"),
        ("messages[1].content[0].text", "input[1].content[0].text"),
        ("messages[2].reasoning_content", "input[2].content[0].text"),
        ("messages[2].content[0].text", "input[3].content[0].text"),
        (
            "messages[2].tool_calls[0].function.arguments",
            "input[4].arguments",
        ),
        ("messages[2].tool_calls[1].function.name", "input[5].name"),
        ("messages[2].tool_calls[1].id", "input[5].call_id"),
        ("messages[4].content[1].text", "input[7].output[1].text"),
    ] {
        assert_eq!(translated.names.client(chat), client, "{chat}");
    }
}

#[test]
fn reasoning_without_content_contributes_summary_and_encrypted_nothing() {
    let translated = translated(json!({ "input": [
        { "type": "reasoning", "summary": [{ "type": "summary_text", "text": "Short." }] },
        { "role": "assistant", "content": "A" },
        { "role": "assistant", "content": "B" },
        { "role": "user", "content": "more" },
        { "type": "reasoning", "summary": [], "encrypted_content": "x" },
        { "role": "assistant", "content": null },
    ]}));
    let messages = &translated.chat["messages"];
    assert_eq!(messages[0]["reasoning_content"], "Short.");
    assert_eq!(messages[0]["content"][1]["text"], "\n\nB");
    assert_eq!(messages[2], json!({ "role": "assistant" }));
}

#[test]
fn flat_tools_and_formats_become_nested() {
    let translated = translated(json!({
        "input": "hi",
        "tools": [
            { "type": "web_search" },
            { "type": "function", "name": "ls", "description": null, "parameters": { "type": "object" }, "strict": true },
            { "type": "namespace", "name": "x", "tools": [] },
        ],
        "tool_choice": { "type": "allowed_tools", "mode": "required", "tools": [
            { "type": "function", "name": "ls" }, { "type": "web_search" } ] },
        "parallel_tool_calls": false,
        "reasoning": { "effort": "low", "summary": "auto" },
        "text": { "verbosity": "low", "format":
            { "type": "json_schema", "name": "answer", "schema": { "type": "object" }, "strict": true, "description": null } },
    }));
    let chat = translated.chat;
    let ls = json!({ "type": "function",
        "function": { "name": "ls", "parameters": { "type": "object" }, "strict": true } });
    assert_eq!(chat["tools"], json!([ls]));
    assert_eq!(
        chat["tool_choice"],
        json!({ "type": "allowed_tools", "allowed_tools":
            { "mode": "required", "tools": [{ "type": "function", "function": { "name": "ls" } }] } })
    );
    assert_eq!(chat["parallel_tool_calls"], false);
    assert_eq!(chat["reasoning_effort"], "low");
    assert_eq!(chat["verbosity"], "low");
    assert_eq!(
        chat["response_format"],
        json!({ "type": "json_schema",
            "json_schema": { "name": "answer", "schema": { "type": "object" }, "strict": true } })
    );
    assert_eq!(
        translated.ignored,
        [
            "tools[0]",
            "tools[2]",
            "tool_choice.tools[1]",
            "reasoning.summary"
        ]
    );
    for (chat, client) in [
        (
            "tools[0].function.parameters.properties.x",
            "tools[1].parameters.properties.x",
        ),
        (
            "response_format.json_schema.schema.items",
            "text.format.schema.items",
        ),
        ("response_format.type", "text.format.type"),
        ("reasoning_effort", "reasoning.effort"),
        ("verbosity", "text.verbosity"),
        ("tool_choice.function.name", "tool_choice.name"),
        ("tool_choice.allowed_tools.mode", "tool_choice.mode"),
    ] {
        assert_eq!(translated.names.client(chat), client, "{chat}");
    }
}

#[test]
fn tool_choice_forms_are_translated() {
    let choice = |choice: Value| {
        let request = request(json!({ "input": "hi", "tool_choice": choice }));
        request.map(|request| request.translated.chat["tool_choice"].clone())
    };
    for word in ["none", "auto", "required"] {
        assert_eq!(choice(word.into()).unwrap(), word);
    }
    assert_eq!(
        choice(json!({ "type": "function", "name": "ls" })).unwrap(),
        json!({ "type": "function", "function": { "name": "ls" } })
    );
    let hosted = choice(json!({ "type": "web_search" })).unwrap_err();
    assert_eq!(hosted.param.unwrap(), "tool_choice.type");
}

#[test]
fn codex_body_is_accepted_and_only_dropped_tools_and_summary_are_reported() {
    let translated = translated(json!({
        "model": "m", "stream": true, "store": false, "tool_choice": "auto", "parallel_tool_calls": true,
        "reasoning": { "summary": "auto" }, "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k", "client_metadata": { "a": "b" },
        "tools": [{ "type": "function", "name": "shell", "parameters": {}, "strict": false }, { "type": "web_search" }],
        "input": [
            { "type": "message", "role": "developer", "content": [{ "type": "input_text", "text": "a" }] },
            { "type": "message", "role": "developer", "content": [{ "type": "input_text", "text": "b" }] },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "c" }] },
        ],
    }));
    assert_eq!(translated.ignored, ["tools[1]", "reasoning.summary"]);
    let fields: Vec<&String> = translated.chat.keys().collect();
    assert_eq!(
        fields,
        [
            "model",
            "messages",
            "tools",
            "tool_choice",
            "continue_final_message",
            "stream",
            "parallel_tool_calls",
            "prompt_cache_key"
        ]
    );
}

#[test]
fn fields_without_effect_are_reported() {
    let translated = translated(json!({
        "input": "hi", "truncation": "auto", "top_logprobs": 3, "include": ["message.output_text.logprobs"],
        "stream_options": { "include_obfuscation": false }, "max_tool_calls": 3, "n": 1,
    }));
    assert_eq!(
        translated.ignored,
        ["include[0]", "truncation", "top_logprobs"]
    );
    assert!(!translated.chat.contains_key("stream_options"));
}

#[test]
fn unsupported_parts_are_refused_by_path() {
    let content = |part: Value| json!({ "input": [{ "role": "user", "content": [part] }] });
    for (body, param) in [
        (
            content(json!({ "type": "input_image", "image_url": "data:" })),
            "input[0].content[0]",
        ),
        (
            content(json!({ "type": "input_file", "file_id": "f" })),
            "input[0].content[0]",
        ),
        (
            content(json!({ "type": "input_text" })),
            "input[0].content[0].text",
        ),
        (content(json!({ "type": "x" })), "input[0].content[0].type"),
        (content(json!("text")), "input[0].content[0]"),
        (json!({ "input": 3 }), "input"),
        (json!({ "input": ["hi"] }), "input[0]"),
        (
            json!({ "input": [{ "role": "tool", "content": "" }] }),
            "input[0].role",
        ),
        (json!({ "input": [{ "role": "user" }] }), "input[0].content"),
        (json!({ "input": [{ "content": "" }] }), "input[0].role"),
        (
            json!({ "input": [{ "type": "item_reference", "id": "msg_1" }] }),
            "input[0]",
        ),
        (
            json!({ "input": [{ "type": "web_search_call" }] }),
            "input[0].type",
        ),
        (
            json!({ "input": [{ "type": "function_call_output", "call_id": "c" }] }),
            "input[0].output",
        ),
        (
            json!({ "input": [{ "type": "function_call_output", "call_id": "c", "output": [{ "type": "input_image" }] }] }),
            "input[0].output[0]",
        ),
        (json!({ "input": "hi", "background": true }), "background"),
        (
            json!({ "input": "hi", "conversation": "conv_1" }),
            "conversation",
        ),
        (json!({ "input": "hi", "prompt": { "id": "p" } }), "prompt"),
        (json!({ "input": "hi", "n": 2 }), "n"),
        (json!({ "messages": [] }), "messages"),
        (
            json!({ "input": "hi", "text": { "format": { "type": "xml" } } }),
            "text.format.type",
        ),
        (json!({ "input": "hi", "tools": [3] }), "tools[0]"),
    ] {
        assert_eq!(refused_param(body.clone()), param, "{body}");
    }
}

#[test]
fn null_fields_are_absent() {
    let nulls: serde_json::Map<String, Value> = [
        "instructions",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
        "store",
        "background",
        "conversation",
        "prompt",
        "previous_response_id",
        "include",
        "truncation",
        "metadata",
        "n",
        "max_output_tokens",
        "temperature",
    ]
    .into_iter()
    .map(|name| (name.to_owned(), Value::Null))
    .collect();
    let mut value = json!({ "input": "hi" });
    value.as_object_mut().unwrap().extend(nulls);
    let request = request(value).unwrap();
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let expected = json!({ "messages": messages, "continue_final_message": false });
    assert_eq!(Value::Object(request.translated.chat), expected);
    assert!(request.pending.is_some());
}
