use serde_json::{Value, json};

use crate::api::generation::GenerationEnd;
use crate::api::protocol::tests::{arguments, body, call_start, counting_ids, end, full_answer};
use crate::api::protocol::{Failure, FailureKind, ReplyPart, Sse};
use crate::api::responses::{ResponseEncoder, translate, whole};

fn encoder() -> ResponseEncoder {
    let request = json!({
        "input": "hi", "instructions": "be brief", "metadata": { "a": "b" }, "reasoning": { "effort": "low" },
        "tools": [{ "type": "function", "name": "ls" }, { "type": "web_search" }],
    });
    let request = translate(body(request), &mut |_| None).unwrap();
    ResponseEncoder::new(request.echo, "m", 1700, &mut counting_ids())
}

fn stream(events: Vec<ReplyPart>, reason: GenerationEnd) -> Vec<Sse> {
    let mut encoder = encoder();
    let mut out = encoder.opening();
    out.extend(events.into_iter().flat_map(|event| encoder.event(event)));
    out.extend(encoder.end(end(reason)));
    out
}

fn names(stream: &[Sse]) -> Vec<&str> {
    stream
        .iter()
        .map(|sse| sse.event.trim_start_matches("response."))
        .collect()
}

#[test]
fn full_answer_is_streamed_in_documented_order() {
    let stream = stream(full_answer(), GenerationEnd::ToolCalls);
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names(&stream), expected);
    for (index, sse) in stream.iter().enumerate() {
        assert_eq!(sse.data["type"], sse.event);
        assert_eq!(sse.data["sequence_number"], index);
    }
    assert_eq!(stream[0].data["response"]["status"], "in_progress");
    assert_eq!(stream[0].data["response"]["output"], json!([]));
    assert_eq!(
        stream[3].data,
        json!({ "type": "response.reasoning_text.delta", "sequence_number": 3, "item_id": "rs_100", "output_index": 0,
            "content_index": 0, "delta": "Run " })
    );
    assert_eq!(
        stream[8].data["part"],
        json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] })
    );
    assert_eq!(
        stream[17].data,
        json!({ "type": "response.function_call_arguments.done", "sequence_number": 17, "item_id": "fc_102",
            "output_index": 2, "arguments": "{\"dir\": \".\"}", "name": "ls" })
    );
}

#[test]
fn completed_response_has_all_fields() {
    let stream = stream(full_answer(), GenerationEnd::ToolCalls);
    let expected = json!({
        "id": "resp_1", "object": "response", "created_at": 1700, "status": "completed", "error": null,
        "incomplete_details": null, "model": "m",
        "output": [
            { "id": "rs_100", "type": "reasoning", "summary": [], "status": "completed",
              "content": [{ "type": "reasoning_text", "text": "Run it." }] },
            { "id": "msg_101", "type": "message", "role": "assistant", "status": "completed",
              "content": [{ "type": "output_text", "text": "Hello.", "annotations": [], "logprobs": [] }] },
            { "id": "fc_102", "type": "function_call", "call_id": "call_0", "name": "ls",
              "arguments": "{\"dir\": \".\"}", "status": "completed" },
        ],
        "usage": {
            "input_tokens": 42, "input_tokens_details": { "cached_tokens": 30, "cache_write_tokens": 0 },
            "output_tokens": 9, "output_tokens_details": { "reasoning_tokens": 4 }, "total_tokens": 51,
        },
        "background": false, "instructions": "be brief", "max_output_tokens": null, "metadata": { "a": "b" },
        "parallel_tool_calls": true, "previous_response_id": null, "reasoning": { "effort": "low", "summary": null },
        "store": true, "temperature": null, "text": { "format": { "type": "text" } }, "tool_choice": "auto",
        "tools": [{ "type": "function", "name": "ls", "description": null, "parameters": null, "strict": null }],
        "top_p": null, "truncation": "disabled",
    });
    assert_eq!(stream.last().unwrap().data["response"], expected);
    assert_eq!(
        whole(encoder(), full_answer(), end(GenerationEnd::ToolCalls)),
        expected
    );
}

#[test]
fn length_inside_call_leaves_incomplete_call() {
    let events = vec![call_start(0, "ls"), arguments(0, "{\"dir\": ")];
    let stream = stream(events, GenerationEnd::Length);
    assert_eq!(
        names(&stream)[2..],
        [
            "output_item.added",
            "function_call_arguments.delta",
            "output_item.done",
            "incomplete"
        ]
    );
    let response = &stream.last().unwrap().data["response"];
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(response["output"][0]["arguments"], "{\"dir\": ");
}

#[test]
fn call_without_arguments_gets_empty_object() {
    let stream = stream(
        vec![call_start(0, "ls"), ReplyPart::CallEnd { index: 0 }],
        GenerationEnd::ToolCalls,
    );
    assert_eq!(stream[3].data["delta"], "{}");
    assert_eq!(
        stream.last().unwrap().data["response"]["output"][0]["arguments"],
        "{}"
    );
}

#[test]
fn stop_without_output_gives_empty_message() {
    let last = |reason| {
        let stream = stream(vec![ReplyPart::Reasoning("x".into())], reason);
        stream.last().unwrap().data["response"]["output"].clone()
    };
    assert_eq!(last(GenerationEnd::Stop)[1]["content"][0]["text"], "");
    assert_eq!(last(GenerationEnd::Length)[1], Value::Null);
    assert_eq!(last(GenerationEnd::Length)[0]["status"], "incomplete");
}

#[test]
fn failure_keeps_complete_items_only() {
    let failure = Failure {
        kind: FailureKind::Server,
        message: "the engine stopped".into(),
    };
    let mut encoder = encoder();
    encoder.opening();
    for event in full_answer().into_iter().take(4) {
        encoder.event(event);
    }
    let last = encoder.failure(failure.clone()).remove(0);
    assert_eq!(last.event, "response.failed");
    let response = &last.data["response"];
    assert_eq!(response["status"], "failed");
    assert_eq!(
        response["error"],
        json!({ "code": "server_error", "message": "the engine stopped" })
    );
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
    let early = self::encoder().failure(failure).remove(0);
    assert_eq!(
        early.data,
        json!({ "type": "error", "sequence_number": 0, "code": "server_error", "message": "the engine stopped",
            "param": null })
    );
}

#[test]
fn keep_alive_repeats_in_progress_with_next_sequence_number() {
    let mut encoder = encoder();
    encoder.opening();
    let keep_alive = encoder.keep_alive();
    assert_eq!(keep_alive.event, "response.in_progress");
    assert_eq!(keep_alive.data["sequence_number"], 2);
    let next = encoder.event(ReplyPart::Content("a".into()));
    assert_eq!(next[0].data["sequence_number"], 3);
}
