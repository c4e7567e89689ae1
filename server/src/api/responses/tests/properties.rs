use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::protocol::tests::{any_end, any_events, any_json, any_typed, body, counting_ids};
use crate::api::protocol::{ProtocolFields, Sse};
use crate::api::responses::response::RepeatedFields;
use crate::api::responses::{ResponseEncoder, translate, whole};

const KEYS: &[&str] = &[
    "input",
    "instructions",
    "type",
    "role",
    "content",
    "text",
    "summary",
    "call_id",
    "name",
    "arguments",
    "output",
    "tools",
    "tool_choice",
    "mode",
    "format",
    "schema",
    "reasoning",
    "effort",
    "include",
    "store",
    "n",
    "stream",
    "previous_response_id",
    "parameters",
    "strict",
    "status",
    "background",
    "max_output_tokens",
];
const WORDS: &[&str] = &[
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "function",
    "user",
    "assistant",
    "developer",
    "input_text",
    "output_text",
    "refusal",
    "json_schema",
    "allowed_tools",
    "auto",
];

fn encoder() -> ResponseEncoder {
    let echo = RepeatedFields::before(&ProtocolFields::new(Default::default())).unwrap();
    ResponseEncoder::new(echo, "m", 0, &mut counting_ids())
}

/// What a client makes of the events, by their deltas alone.
fn accumulate(stream: &[Sse]) -> Vec<(String, String)> {
    let mut items: Vec<(String, String)> = Vec::new();
    for sse in stream {
        let data = &sse.data;
        match sse.event {
            "response.output_item.added" => {
                assert_eq!(data["output_index"], items.len());
                items.push((
                    data["item"]["id"].as_str().unwrap().to_owned(),
                    String::new(),
                ));
            }
            event if event.ends_with(".delta") => {
                let index = data["output_index"].as_u64().unwrap() as usize;
                assert_eq!(index, items.len() - 1, "items do not overlap");
                assert_eq!(data["item_id"], items[index].0.as_str());
                items[index].1.push_str(data["delta"].as_str().unwrap());
            }
            _ => {}
        }
    }
    items
}

fn text_of(item: &Value) -> &str {
    let text = match item["type"].as_str() {
        Some("function_call") => &item["arguments"],
        _ => &item["content"][0]["text"],
    };
    text.as_str().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn translate_any_json_never_panics(value in any_json(KEYS, WORDS)) {
        if let Value::Object(body) = value {
            let _ = translate(body, &mut |_| None);
        }
    }

    #[test]
    fn translate_any_item_gives_array_of_messages(items in prop::collection::vec(any_typed(KEYS, WORDS), 1..3)) {
        let body = body(json!({ "input": items }));
        if let Ok(request) = translate(body, &mut |_| None) {
            prop_assert!(request.translated.chat["messages"].is_array());
        }
    }

    #[test]
    fn translate_any_tool_never_panics(tool in any_typed(KEYS, WORDS), choice in any_typed(KEYS, WORDS)) {
        let body = body(json!({ "input": "", "tools": [tool], "tool_choice": choice, "text": { "format": tool } }));
        let _ = translate(body, &mut |_| None);
    }

    #[test]
    fn streamed_deltas_concatenate_to_plain_answer(events in any_events(), end in any_end()) {
        let mut encoder = encoder();
        let mut stream = encoder.opening();
        for event in events.clone() {
            stream.extend(encoder.event(event));
        }
        stream.extend(encoder.end(end.clone()));
        let plain = whole(self::encoder(), events, end);
        prop_assert_eq!(&stream.last().unwrap().data["response"], &plain);
        for (index, sse) in stream.iter().enumerate() {
            prop_assert_eq!(&sse.data["sequence_number"], index);
        }
        let output = plain["output"].as_array().unwrap();
        let expected: Vec<(String, String)> = output
            .iter()
            .map(|item| (item["id"].as_str().unwrap().to_owned(), text_of(item).to_owned()))
            .collect();
        prop_assert_eq!(accumulate(&stream), expected);
        let done = stream.iter().filter(|sse| sse.event == "response.output_item.done");
        let done: Vec<&Value> = done.map(|sse| &sse.data["item"]).collect();
        prop_assert_eq!(done, output.iter().collect::<Vec<_>>());
    }
}
