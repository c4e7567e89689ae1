use serde_json::{Value, json};

use crate::api::anthropic::{count_answer, translate, translate_count};
use crate::api::protocol::tests::body;
use crate::api::protocol::{Translated, TranslationError};

fn messages(messages: Value) -> Result<Translated, TranslationError> {
    translate(body(json!({ "max_tokens": 9, "messages": messages })))
}

fn chat_messages(list: Value) -> Value {
    messages(list).unwrap().chat["messages"].clone()
}

#[test]
fn small_body_becomes_chat_body_without_thinking() {
    let translated = translate(body(json!({
        "model": "m", "max_tokens": 32000, "system": "be brief", "stream": true, "temperature": 1, "top_k": 5,
        "stop_sequences": ["END"], "metadata": { "user_id": "{}" }, "service_tier": "auto", "mcp_servers": [],
        "messages": [{ "role": "user", "content": "hi" }],
    })))
    .unwrap();
    let expected = json!({
        "model": "m",
        "messages": [
            { "role": "system", "content": [{ "type": "text", "text": "be brief" }] },
            { "role": "user", "content": "hi" },
        ],
        "chat_template_kwargs": { "enable_thinking": false },
        "stop": ["END"],
        "stream": true,
        "temperature": 1,
        "top_k": 5,
        "max_tokens": 32000,
    });
    assert_eq!(Value::Object(translated.chat), expected);
    assert!(translated.ignored.is_empty());
    assert_eq!(translated.names.client("stop[0]"), "stop_sequences[0]");
    assert_eq!(
        translated.names.client("messages[0].content[0].text"),
        "system"
    );
    assert_eq!(
        translated.names.client("messages[1].content"),
        "messages[0].content"
    );
}

#[test]
fn blocks_of_agent_turns_become_reasoning_calls_and_tool_messages() {
    let list = json!([
        { "role": "user", "content": [
            { "type": "text", "text": "List", "cache_control": { "type": "ephemeral" } }, { "type": "text", "text": "now." } ] },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "Run it.", "signature": "s" },
            { "type": "redacted_thinking", "data": "x" },
            { "type": "text", "text": "Hello." },
            { "type": "tool_use", "id": "toolu_1", "name": "ls", "input": { "dir": "." }, "caller": { "type": "direct" } },
            { "type": "tool_use", "id": "toolu_2", "name": "pwd", "input": {} } ] },
        { "role": "user", "content": [
            { "type": "text", "text": "And then?" },
            { "type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt", "is_error": false },
            { "type": "tool_result", "tool_use_id": "toolu_2", "is_error": true,
              "content": [{ "type": "text", "text": "no" }, { "type": "text", "text": "way" }] } ] },
    ]);
    let translated = messages(list).unwrap();
    let expected = json!([
        { "role": "user", "content": [{ "type": "text", "text": "List" }, { "type": "text", "text": "\nnow." }] },
        { "role": "assistant", "reasoning_content": "Run it.", "content": [{ "type": "text", "text": "Hello." }],
          "tool_calls": [
            { "id": "toolu_1", "type": "function", "function": { "name": "ls", "arguments": "{\"dir\":\".\"}" } },
            { "id": "toolu_2", "type": "function", "function": { "name": "pwd", "arguments": "{}" } } ] },
        { "role": "tool", "content": [{ "type": "text", "text": "a.txt" }], "tool_call_id": "toolu_1" },
        { "role": "tool", "tool_call_id": "toolu_2", "content": [
            { "type": "text", "text": "The tool call failed:\n" },
            { "type": "text", "text": "no" }, { "type": "text", "text": "\nway" } ] },
        { "role": "user", "content": [{ "type": "text", "text": "And then?" }] },
    ]);
    assert_eq!(translated.chat["messages"], expected);
    for (chat, client) in [
        ("messages[0].content[1].text", "messages[0].content[1].text"),
        (
            "messages[1].reasoning_content",
            "messages[1].content[0].thinking",
        ),
        (
            "messages[1].tool_calls[0].function.arguments",
            "messages[1].content[3].input",
        ),
        (
            "messages[1].tool_calls[1].function.name",
            "messages[1].content[4].name",
        ),
        (
            "messages[2].content[0].text",
            "messages[2].content[1].content",
        ),
        (
            "messages[3].content[2].text",
            "messages[2].content[2].content[1].text",
        ),
        ("messages[4].content[0].text", "messages[2].content[0].text"),
    ] {
        assert_eq!(translated.names.client(chat), client, "{chat}");
    }
}

#[test]
fn system_turn_is_folded_into_user_turn_before_it() {
    let list = chat_messages(json!([
        { "role": "user", "content": "hi" },
        { "role": "system", "content": [{ "type": "text", "text": "Be kind." }] },
        { "role": "assistant", "content": "Hello." },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t" }] },
        { "role": "system", "content": "A" },
        { "role": "system", "content": "B" },
    ]));
    let reminder = |text: &str| format!("<system-reminder>\n{text}\n</system-reminder>");
    assert_eq!(
        list[0],
        json!({ "role": "user", "content": [
            { "type": "text", "text": "hi" }, { "type": "text", "text": format!("\n{}", reminder("Be kind.")) } ] })
    );
    assert_eq!(
        list[2],
        json!({ "role": "tool", "tool_call_id": "t", "content": [
            { "type": "text", "text": reminder("A") }, { "type": "text", "text": format!("\n{}", reminder("B")) } ] })
    );
    assert_eq!(list.as_array().unwrap().len(), 3);
}

#[test]
fn reminder_beside_tool_results_is_no_new_query() {
    const REMINDER: &str = "<system-reminder>\nBe kind.\n</system-reminder>";
    let roles = |texts: &[&str]| {
        let mut content =
            vec![json!({ "type": "tool_result", "tool_use_id": "t", "content": "ok" })];
        content.extend(
            texts
                .iter()
                .map(|text| json!({ "type": "text", "text": text })),
        );
        let list = chat_messages(json!([{ "role": "user", "content": content }]));
        let list = list.as_array().unwrap().iter();
        list.map(|message| {
            (
                message["role"].clone(),
                message["content"].as_array().unwrap().len(),
            )
        })
        .collect::<Vec<_>>()
    };
    let of = |role: &str, parts: usize| (json!(role), parts);
    assert_eq!(roles(&[]), [of("tool", 1)]);
    assert_eq!(roles(&[""]), [of("tool", 1)]);
    assert_eq!(roles(&[REMINDER, REMINDER]), [of("tool", 3)]);
    assert_eq!(roles(&[REMINDER, "And?"]), [of("tool", 1), of("user", 2)]);
}

#[test]
fn system_turn_after_assistant_is_folded_into_user_turn_after_it() {
    let translated = messages(json!([
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": "b" },
        { "role": "system", "content": "Be kind." },
        { "role": "user", "content": "c" },
        { "role": "assistant", "content": "d" },
        { "role": "system", "content": "Stop." },
    ]))
    .unwrap();
    let list = &translated.chat["messages"];
    let parts = list[2]["content"].as_array().unwrap();
    assert_eq!(
        parts[0]["text"],
        "<system-reminder>\nBe kind.\n</system-reminder>"
    );
    assert_eq!(parts[1]["text"], "\nc");
    assert_eq!(
        translated.names.client("messages[2].content[1].text"),
        "messages[3].content"
    );
    assert_eq!(list[4]["role"], "user");
    assert!(!translated.chat.contains_key("continue_final_message"));
}

#[test]
fn system_turn_before_all_others_joins_leading_system_message() {
    let value = json!({ "max_tokens": 9, "system": [{ "type": "text", "text": "A" }], "messages": [
        { "role": "system", "content": "B" }, { "role": "user", "content": "hi" } ] });
    let translated = translate(body(value)).unwrap();
    assert_eq!(
        translated.chat["messages"][0],
        json!({ "role": "system", "content": [{ "type": "text", "text": "A" }, { "type": "text", "text": "\n\nB" }] })
    );
}

#[test]
fn billing_header_is_removed_from_system_text_only() {
    const HEADER: &str = "x-anthropic-billing-header: cc_version=2.1.197.123; cch=1f2e3;";
    let with = |system: Value, list: Value| {
        let value = json!({ "max_tokens": 9, "system": system, "messages": list });
        translate(body(value)).unwrap().chat["messages"].clone()
    };
    let user = json!([{ "role": "user", "content": HEADER }]);
    let blocks =
        json!([{ "type": "text", "text": HEADER }, { "type": "text", "text": "You help." }]);
    let system = json!({ "role": "system", "content": [{ "type": "text", "text": "You help." }] });
    assert_eq!(with(blocks, user.clone()), json!([system, user[0]]));
    let joined = format!("{HEADER}\n\nYou help.");
    assert_eq!(
        with(joined.clone().into(), user.clone()),
        json!([system, user[0]])
    );
    let one_block = json!([{ "type": "text", "text": joined }]);
    assert_eq!(with(one_block, user.clone()), json!([system, user[0]]));
    let turns = json!([user[0], { "role": "system", "content": HEADER }]);
    assert_eq!(with(HEADER.into(), turns), user);
}

#[test]
fn trailing_assistant_text_is_continued() {
    let turns = |last: Value| {
        messages(
            json!([{ "role": "user", "content": "hi" }, { "role": "assistant", "content": last }]),
        )
    };
    let translated = turns("Sure, ".into()).unwrap();
    assert_eq!(translated.chat["continue_final_message"], true);
    let call = json!([{ "type": "tool_use", "id": "t", "name": "f", "input": {} }]);
    for last in [
        call,
        json!(""),
        json!([{ "type": "thinking", "thinking": "x" }]),
    ] {
        assert_eq!(turns(last).unwrap_err().param.unwrap(), "messages[1]");
    }
}

#[test]
fn count_tokens_needs_no_max_tokens() {
    let value = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(
        translate(body(value.clone())).unwrap_err().param.unwrap(),
        "max_tokens"
    );
    let counted = translate_count(body(value.clone())).unwrap();
    let mut with_limit = value;
    with_limit["max_tokens"] = 9.into();
    with_limit["stream"] = true.into();
    assert_eq!(translate_count(body(with_limit)).unwrap(), counted);
    assert_eq!(count_answer(12), json!({ "input_tokens": 12 }));
}

#[test]
fn unsupported_blocks_are_refused_by_path() {
    let user = |block: Value| json!([{ "role": "user", "content": [block] }]);
    let assistant = |block: Value| json!([{ "role": "assistant", "content": [block] }, { "role": "user", "content": "" }]);
    for (list, param) in [
        (
            user(json!({ "type": "image", "source": {} })),
            "messages[0].content[0]",
        ),
        (
            user(json!({ "type": "document" })),
            "messages[0].content[0]",
        ),
        (
            user(json!({ "type": "tool_use" })),
            "messages[0].content[0].type",
        ),
        (
            user(json!({ "type": "text" })),
            "messages[0].content[0].text",
        ),
        (
            user(json!({ "type": "tool_result" })),
            "messages[0].content[0].tool_use_id",
        ),
        (
            user(
                json!({ "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "image" }] }),
            ),
            "messages[0].content[0].content[0]",
        ),
        (
            assistant(json!({ "type": "tool_use", "id": "t", "name": "f", "input": "x" })),
            "messages[0].content[0].input",
        ),
        (
            assistant(json!({ "type": "server_tool_use" })),
            "messages[0].content[0].type",
        ),
        (
            json!([{ "role": "tool", "content": "" }]),
            "messages[0].role",
        ),
        (json!([{ "role": "user" }]), "messages[0].content"),
        (json!([{ "role": "system" }]), "messages[0].content"),
        (json!(["hi"]), "messages[0]"),
        (json!("hi"), "messages"),
    ] {
        assert_eq!(
            messages(list.clone()).unwrap_err().param.unwrap(),
            param,
            "{list}"
        );
    }
}
