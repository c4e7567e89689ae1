use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::anthropic::{MessageEncoder, input, translate, translate_count, whole};
use crate::api::generation::GenerationEnd;
use crate::api::protocol::tests::{any_end, any_events, any_json, any_typed, body, counting_ids};
use crate::api::protocol::{ReplyPart, Sse};

const KEYS: &[&str] = &[
    "messages",
    "system",
    "max_tokens",
    "role",
    "content",
    "type",
    "text",
    "thinking",
    "id",
    "name",
    "input",
    "tool_use_id",
    "is_error",
    "tools",
    "input_schema",
    "tool_choice",
    "disable_parallel_tool_use",
    "output_config",
    "effort",
    "format",
    "schema",
    "stop_sequences",
    "n",
    "chat_template_kwargs",
    "enable_thinking",
];
const WORDS: &[&str] = &[
    "user",
    "assistant",
    "system",
    "text",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
    "auto",
    "any",
    "tool",
    "enabled",
    "adaptive",
    "json_schema",
    "x-anthropic-billing-header: a\nb",
];

fn encoder() -> MessageEncoder {
    MessageEncoder::new("m", 42, 30, &mut counting_ids())
}

/// The message as a client builds it from the events.
fn accumulate(stream: &[Sse]) -> Value {
    let mut message = Value::Null;
    let mut arguments = String::new();
    let mut open = None;
    for Sse { event, data } in stream {
        match *event {
            "message_start" => message = data["message"].clone(),
            "content_block_start" => {
                assert_eq!(
                    open.replace(data["index"].clone()),
                    None,
                    "blocks do not overlap"
                );
                message["content"]
                    .as_array_mut()
                    .unwrap()
                    .push(data["content_block"].clone());
                arguments.clear();
            }
            "content_block_delta" => {
                assert_eq!(open.as_ref(), Some(&data["index"]));
                let block = message["content"]
                    .as_array_mut()
                    .unwrap()
                    .last_mut()
                    .unwrap();
                let delta = data["delta"].as_object().unwrap();
                let (name, more) = delta.iter().find(|(name, _)| *name != "type").unwrap();
                let more = more.as_str().unwrap();
                if name == "partial_json" {
                    arguments.push_str(more);
                } else {
                    block[name] = format!("{}{more}", block[name].as_str().unwrap()).into();
                }
            }
            "content_block_stop" => {
                assert_eq!(open.take().as_ref(), Some(&data["index"]));
                let block = message["content"]
                    .as_array_mut()
                    .unwrap()
                    .last_mut()
                    .unwrap();
                if block["type"] == "tool_use" {
                    block["input"] = input::parse(&arguments);
                }
            }
            "message_delta" => {
                for (name, value) in data["delta"].as_object().unwrap() {
                    message[name] = value.clone();
                }
                message["usage"] = data["usage"].clone();
            }
            _ => {}
        }
    }
    message
}

/// Whether the last call is open at the end of the events: other parts than its arguments end it too.
fn is_call_cut(events: &[ReplyPart]) -> bool {
    let mut open = None;
    for event in events {
        match event {
            ReplyPart::CallStart { index, .. } => open = Some(index),
            ReplyPart::CallEnd { index } if open == Some(index) => open = None,
            ReplyPart::Reasoning(text) | ReplyPart::Content(text) if !text.is_empty() => {
                open = None;
            }
            _ => {}
        }
    }
    open.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn translate_any_json_never_panics(value in any_json(KEYS, WORDS)) {
        if let Value::Object(body) = value {
            let _ = translate(body.clone());
            let _ = translate_count(body);
        }
    }

    #[test]
    fn translate_any_block_gives_array_of_messages(
        blocks in prop::collection::vec(any_typed(KEYS, WORDS), 1..3),
        role in prop::sample::select(WORDS),
    ) {
        let body = body(json!({ "messages": [{ "role": role, "content": blocks }, { "role": "user", "content": "" }] }));
        if let Ok(translated) = translate_count(body) {
            prop_assert!(translated.chat["messages"].is_array());
        }
    }

    #[test]
    fn translate_any_tool_never_panics(tool in any_typed(KEYS, WORDS), choice in any_typed(KEYS, WORDS)) {
        let body = body(json!({ "messages": [], "tools": [tool], "tool_choice": choice, "thinking": choice,
            "output_config": { "format": tool }, "system": [tool] }));
        let _ = translate_count(body);
    }

    #[test]
    fn complete_members_any_text_never_panic(text in "[{}\\[\\]\",:\\\\a1 é]{0,20}") {
        prop_assert!(input::parse(&text).is_object());
    }

    #[test]
    fn accumulated_stream_equals_plain_answer(events in any_events(), end in any_end()) {
        let mut encoder = encoder();
        let mut stream = encoder.opening();
        for event in events.clone() {
            stream.extend(encoder.event(event));
        }
        stream.extend(encoder.end(end.clone()));
        let mut accumulated = accumulate(&stream);
        if is_call_cut(&events) && matches!(end.reason, GenerationEnd::StopString(_)) {
            accumulated["content"].as_array_mut().unwrap().pop();
        }
        prop_assert_eq!(accumulated, whole(self::encoder(), events, end));
    }
}
