use serde_json::{Value, json};

use crate::api::anthropic::{MessageEncoder, whole};
use crate::api::generation::GenerationEnd;
use crate::api::protocol::tests::{arguments, call_start, counting_ids, end, full_answer};
use crate::api::protocol::{Failure, FailureKind, ReplyPart, Sse};

fn encoder() -> MessageEncoder {
    MessageEncoder::new("m", 42, 30, &mut counting_ids())
}

fn stream(events: Vec<ReplyPart>, reason: GenerationEnd) -> Vec<Sse> {
    let mut encoder = encoder();
    let mut out = encoder.opening();
    out.extend(events.into_iter().flat_map(|event| encoder.event(event)));
    out.extend(encoder.end(end(reason)));
    out
}

#[test]
fn full_answer_is_streamed_in_documented_order() {
    let stream = stream(full_answer(), GenerationEnd::ToolCalls);
    let delta = |index: usize, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let start = |index: usize, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let stop = |index: usize| json!({ "type": "content_block_stop", "index": index });
    let usage = |output: usize| {
        json!({ "input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 30,
            "output_tokens": output })
    };
    let expected = [
        json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [], "stop_details": null, "stop_reason": null, "stop_sequence": null, "usage": usage(0) } }),
        start(
            0,
            json!({ "type": "thinking", "thinking": "", "signature": "" }),
        ),
        delta(0, json!({ "type": "thinking_delta", "thinking": "Run " })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "it." })),
        delta(
            0,
            json!({ "type": "signature_delta", "signature": "unsigned" }),
        ),
        stop(0),
        start(1, json!({ "type": "text", "text": "" })),
        delta(1, json!({ "type": "text_delta", "text": "Hel" })),
        delta(1, json!({ "type": "text_delta", "text": "lo." })),
        stop(1),
        start(
            2,
            json!({ "type": "tool_use", "id": "toolu_0", "name": "ls", "input": {} }),
        ),
        delta(
            2,
            json!({ "type": "input_json_delta", "partial_json": "{\"dir\": " }),
        ),
        delta(
            2,
            json!({ "type": "input_json_delta", "partial_json": "\".\"}" }),
        ),
        stop(2),
        json!({ "type": "message_delta", "usage": usage(9),
            "delta": { "stop_details": null, "stop_reason": "tool_use", "stop_sequence": null } }),
        json!({ "type": "message_stop" }),
    ];
    let data: Vec<&Value> = stream.iter().map(|sse| &sse.data).collect();
    assert_eq!(data, expected.iter().collect::<Vec<_>>());
    assert!(stream.iter().all(|sse| sse.data["type"] == sse.event));
}

#[test]
fn plain_answer_has_documented_shape() {
    let expected = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [
            { "type": "thinking", "thinking": "Run it.", "signature": "unsigned" },
            { "type": "text", "text": "Hello." },
            { "type": "tool_use", "id": "toolu_0", "name": "ls", "input": { "dir": "." } },
        ],
        "stop_details": null, "stop_reason": "tool_use", "stop_sequence": null,
        "usage": { "input_tokens": 12, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 0, "output_tokens": 9 },
    });
    assert_eq!(
        whole(encoder(), full_answer(), end(GenerationEnd::Stop)),
        expected
    );
}

#[test]
fn end_reasons_become_stop_reasons() {
    let stop = |events: &[ReplyPart], reason| {
        let message = whole(encoder(), events.to_vec(), end(reason));
        (
            message["stop_reason"].clone(),
            message["stop_sequence"].clone(),
        )
    };
    let text = [ReplyPart::Content("a".into())];
    assert_eq!(
        stop(&text, GenerationEnd::Stop),
        (json!("end_turn"), Value::Null)
    );
    assert_eq!(
        stop(&text, GenerationEnd::Length),
        (json!("max_tokens"), Value::Null)
    );
    let string = GenerationEnd::StopString("END".into());
    assert_eq!(stop(&text, string), (json!("stop_sequence"), json!("END")));
    let call = [call_start(0, "ls"), ReplyPart::CallEnd { index: 0 }];
    assert_eq!(
        stop(&call, GenerationEnd::Stop),
        (json!("tool_use"), Value::Null)
    );
}

#[test]
fn length_inside_call_keeps_complete_members() {
    let events = vec![
        call_start(0, "ls"),
        arguments(0, "{\"dir\": \".\", \"all\": tr"),
    ];
    let message = whole(encoder(), events, end(GenerationEnd::Length));
    assert_eq!(message["stop_reason"], "max_tokens");
    assert_eq!(message["content"][0]["input"], json!({ "dir": "." }));
}

#[test]
fn failure_is_error_event_and_keep_alive_is_ping() {
    for (kind, name) in [
        (FailureKind::Invalid, "invalid_request_error"),
        (FailureKind::Overloaded, "overloaded_error"),
        (FailureKind::Server, "api_error"),
    ] {
        let message = "why".to_owned();
        let sse = encoder().failure(Failure { kind, message }).remove(0);
        assert_eq!(sse.event, "error");
        assert_eq!(
            sse.data,
            json!({ "type": "error", "error": { "type": name, "message": "why" } })
        );
    }
    assert_eq!(encoder().keep_alive().data, json!({ "type": "ping" }));
}
