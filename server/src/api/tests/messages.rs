//! What the errors say that clients meet most, in every protocol.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use super::fixture::{TestServer, post};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// A chat with further fields.
fn chat(extra: Value) -> Value {
    with(json!({ "messages": [user("hi")] }), extra)
}

/// A completion with further fields.
fn completion(extra: Value) -> Value {
    with(json!({ "prompt": "hi" }), extra)
}

/// A response with further fields.
fn response(extra: Value) -> Value {
    with(json!({ "input": "hi" }), extra)
}

/// A message with further fields.
fn message(extra: Value) -> Value {
    with(json!({ "messages": [user("hi")], "max_tokens": 5 }), extra)
}

fn with(mut body: Value, extra: Value) -> Value {
    let extra = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(extra);
    body
}

fn user(content: impl Into<Value>) -> Value {
    json!({ "role": "user", "content": content.into() })
}

/// The field and the message of an error; Anthropic's shape has no field.
async fn refused(route: &str, body: Value) -> (Value, String) {
    refused_text(route, body.to_string()).await
}

async fn refused_text(route: &str, body: String) -> (Value, String) {
    let server = TestServer::new();
    let mut request = post(route, Value::Null);
    *request.body_mut() = Body::from(body.clone());
    let answer = server.send(request).await;
    assert_eq!(answer.status, 400, "{route} {body}: {}", answer.text);
    let error = answer.json()["error"].clone();
    let text = error["message"].as_str().unwrap().to_owned();
    (error["param"].clone(), text)
}

#[tokio::test]
async fn wrong_stop_is_named_with_its_limit() {
    let many = vec!["x"; 17];
    let long = "x".repeat(257);
    for (route, body, param, text) in [
        (
            CHAT,
            chat(json!({ "stop": many })),
            "stop",
            "`stop` has more than 16 elements",
        ),
        (
            COMPLETIONS,
            completion(json!({ "stop": many })),
            "stop",
            "`stop` has more than 16 elements",
        ),
        (
            RESPONSES,
            response(json!({ "stop": many })),
            "stop",
            "`stop` has more than 16 elements",
        ),
        (
            MESSAGES,
            message(json!({ "stop_sequences": many })),
            "stop_sequences",
            "`stop_sequences` has more than 16 elements",
        ),
        (
            CHAT,
            chat(json!({ "stop": long })),
            "stop",
            "`stop` has 257 bytes; a stop string has at most 256",
        ),
        (
            COMPLETIONS,
            completion(json!({ "stop": ["a", long] })),
            "stop[1]",
            "`stop[1]` has 257 bytes; a stop string has at most 256",
        ),
        (
            RESPONSES,
            response(json!({ "stop": [long] })),
            "stop[0]",
            "`stop[0]` has 257 bytes; a stop string has at most 256",
        ),
        (
            MESSAGES,
            message(json!({ "stop_sequences": [long] })),
            "stop_sequences[0]",
            "`stop_sequences[0]` has 257 bytes; a stop string has at most 256",
        ),
        (
            CHAT,
            chat(json!({ "stop": ["a", ""] })),
            "stop[1]",
            "`stop[1]` is empty; remove it",
        ),
        (
            CHAT,
            chat(json!({ "stop": 3 })),
            "stop",
            "`stop` must be a string or an array of up to 16 strings, not 3",
        ),
    ] {
        let (found, message) = refused(route, body).await;
        assert_eq!(message, text, "{route}");
        if route != MESSAGES {
            assert_eq!(found, param, "{route}");
        }
    }
}

#[tokio::test]
async fn empty_input_is_named() {
    for (route, body, text) in [
        (
            CHAT,
            json!({ "messages": [] }),
            "`messages` is empty; send one at least",
        ),
        (
            COMPLETIONS,
            json!({ "prompt": [] }),
            "`prompt` is empty; send a text or one token id at least",
        ),
        (
            COMPLETIONS,
            json!({ "prompt": ["a", []] }),
            "`prompt[1]` is empty; send a text or one token id at least",
        ),
        (
            COMPLETIONS,
            json!({ "prompt": vec!["a"; 65] }),
            "`prompt` has 65 prompts; 64 at most",
        ),
        (
            RESPONSES,
            json!({ "input": [] }),
            "`input` is empty; send one at least",
        ),
        (RESPONSES, json!({}), "`input` is empty; send one at least"),
        (
            MESSAGES,
            json!({ "messages": [], "max_tokens": 5 }),
            "`messages` is empty; send one at least",
        ),
    ] {
        assert_eq!(refused(route, body.clone()).await.1, text, "{route} {body}");
    }
}

#[tokio::test]
async fn null_content_is_refused_where_a_text_is_needed() {
    let tool = json!({ "role": "tool", "tool_call_id": "c", "content": null });
    let result = json!([{ "type": "tool_result", "content": null }]);
    for (route, body, text) in [
        (
            CHAT,
            json!({ "messages": [user(Value::Null)] }),
            "`messages[0].content` is missing or null",
        ),
        (
            CHAT,
            json!({ "messages": [{ "role": "system", "content": null }] }),
            "`messages[0].content` is missing or null",
        ),
        (
            CHAT,
            json!({ "messages": [user("hi"), tool] }),
            "`messages[1].content` is missing or null",
        ),
        (
            COMPLETIONS,
            json!({ "prompt": null }),
            "`prompt` is missing or null",
        ),
        (
            RESPONSES,
            json!({ "input": [user(Value::Null)] }),
            "`input[0].content` is missing or null",
        ),
        (
            MESSAGES,
            message(json!({ "messages": [user(Value::Null)] })),
            "`messages[0].content` is missing or null",
        ),
        (
            MESSAGES,
            message(json!({ "messages": [user(result)] })),
            "`messages[0].content[0].tool_use_id` is missing or null",
        ),
    ] {
        assert_eq!(refused(route, body.clone()).await.1, text, "{route} {body}");
    }
}

#[tokio::test]
async fn null_content_of_an_assistant_is_an_empty_text() {
    let call =
        json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    for last in [
        json!({ "role": "assistant", "content": null, "tool_calls": [call] }),
        json!({ "role": "assistant", "content": null }),
    ] {
        let server = TestServer::new();
        let body = json!({ "messages": [user("hi"), last, user("more")] });
        let events = vec![super::fixture::finished(
            sanctum_engine::schedule::FinishReason::Stop,
            "a",
        )];
        let (_, answer) = server.ask(CHAT, body, events).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

#[tokio::test]
async fn half_of_a_surrogate_pair_is_named_with_its_place() {
    let half = "has half of a surrogate pair (an escape such as \\ud800 without its other half), which is no character; send \
                whole characters (line 1, column ";
    for (route, body, place) in [
        (
            CHAT,
            r#"{"messages": [{"role": "user", "content": "a\ud800"}]}"#,
            "messages[0].content",
        ),
        (
            CHAT,
            r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "\udc00 b"}]}]}"#,
            "messages[0].content[0].text",
        ),
        (
            COMPLETIONS,
            r#"{"prompt": ["a", "\ud800\u0041"]}"#,
            "prompt[1]",
        ),
        (RESPONSES, r#"{"input": "\ud83d"}"#, "input"),
        (
            MESSAGES,
            r#"{"max_tokens": 5, "system": "\ud83dx", "messages": []}"#,
            "system",
        ),
    ] {
        let (param, text) = refused_text(route, body.to_owned()).await;
        let rest = text.strip_prefix(&format!("`{place}` {half}"));
        assert!(
            rest.is_some_and(|rest| rest.ends_with(')')),
            "{route}: {text}"
        );
        if route != MESSAGES {
            assert_eq!(param, place, "{route}");
        }
    }
    let arguments = r#"{"a": "\ud800"}"#;
    let call = json!({ "id": "c", "type": "function", "function": { "name": "f", "arguments": arguments } });
    let last = json!({ "role": "assistant", "tool_calls": [call] });
    let (param, _) = refused(CHAT, json!({ "messages": [user("hi"), last] })).await;
    assert_eq!(param, "messages[1].tool_calls[0].function.arguments.a");
    let (param, text) = refused_text(CHAT, r#"{"\ud800": 1}"#.to_owned()).await;
    assert_eq!(
        (param, text.starts_with("the body has half")),
        (Value::Null, true)
    );
}

#[tokio::test]
async fn bytes_that_are_not_text_are_named_with_their_place() {
    let server = TestServer::new();
    let mut request = post(CHAT, Value::Null);
    let body = b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}";
    *request.body_mut() = Body::from(body.to_vec());
    let answer = server.send(request).await;
    let error = answer.json()["error"].clone();
    assert_eq!(error["param"], "messages[0].content");
    let text = error["message"].as_str().unwrap();
    let start = "`messages[0].content` is not UTF-8; send whole characters (line 1, column ";
    assert!(text.starts_with(start), "{text}");
}

#[tokio::test]
async fn whole_number_may_be_written_with_a_point() {
    let chat = chat(json!({
        "n": 1.0, "max_tokens": 5.0, "seed": 7.0, "top_k": 3.0, "logprobs": true, "top_logprobs": 2.0,
    }));
    let completion = completion(
        json!({ "prompt": [104.0, 105.0], "n": 1.0, "max_tokens": 5.0, "logprobs": 1.0 }),
    );
    let response = response(json!({ "n": 1.0, "max_output_tokens": 5.0 }));
    let message = message(json!({ "max_tokens": 5.0, "top_k": 3.0 }));
    for (route, body) in [
        (CHAT, chat),
        (COMPLETIONS, completion),
        (RESPONSES, response),
        (MESSAGES, message),
    ] {
        let server = TestServer::new();
        let events = vec![super::fixture::finished(
            sanctum_engine::schedule::FinishReason::Stop,
            "a",
        )];
        let (job, answer) = server.ask(route, body, events).await;
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
        assert_eq!(job.request.max_tokens, 5, "{route}");
    }
    for (route, body, text) in [
        (
            CHAT,
            self::chat(json!({ "n": 1.5 })),
            "`n` must be a whole number from 1 to 16, not 1.5",
        ),
        (
            RESPONSES,
            self::response(json!({ "max_output_tokens": 0.5 })),
            "`max_output_tokens` must be a whole number from -1 to 4294967295, not 0.5",
        ),
        (
            RESPONSES,
            self::response(json!({ "n": 2 })),
            "`n` is not supported: there is one answer; remove it",
        ),
        (
            MESSAGES,
            self::message(json!({ "max_tokens": "5" })),
            "`max_tokens` must be a whole number from 1 to 4294967295, not \"5\"",
        ),
    ] {
        assert_eq!(refused(route, body).await.1, text, "{route}");
    }
}

#[tokio::test]
async fn compressed_body_is_a_415_that_names_the_header() {
    for route in [CHAT, COMPLETIONS, RESPONSES, MESSAGES] {
        let server = TestServer::new();
        let send = |encoding: &'static str| {
            let request = Request::post(route)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CONTENT_ENCODING, encoding)
                .body(Body::from("\u{1f}\u{8b}"));
            server.send(request.unwrap())
        };
        let answer = send("gzip").await;
        assert_eq!(answer.status, 415, "{route}");
        assert_eq!(
            answer.json()["error"]["message"],
            "the body is compressed (Content-Encoding: gzip) and this server reads plain JSON; send it without Content-Encoding",
            "{route}"
        );
        assert_eq!(send("identity, br").await.status, 415, "{route}");
        // It is read, and is no JSON.
        assert_eq!(send("identity").await.status, 400, "{route}");
    }
}

#[tokio::test]
async fn what_anthropic_refuses_is_refused_in_messages() {
    for (extra, text) in [
        (
            json!({ "max_tokens": -1 }),
            "`max_tokens` must be a whole number from 1 to 4294967295, not -1",
        ),
        (
            json!({ "max_tokens": 0 }),
            "`max_tokens` must be a whole number from 1 to 4294967295, not 0",
        ),
        (
            json!({ "max_tokens": 1.5 }),
            "`max_tokens` must be a whole number from 1 to 4294967295, not 1.5",
        ),
        (
            json!({ "max_tokens": "5" }),
            "`max_tokens` must be a whole number from 1 to 4294967295, not \"5\"",
        ),
        (
            json!({ "tools": [{ "name": "f" }] }),
            "`tools[0].input_schema` is missing or null",
        ),
        (
            json!({ "tools": [{ "type": "web_search_20250305", "name": "w" }, { "name": "f", "input_schema": null }] }),
            "`tools[1].input_schema` is missing or null",
        ),
        (
            json!({ "thread": { "type": "continue" } }),
            "`thread.previous_message_id` is missing or null",
        ),
        (
            json!({ "thread": { "type": "continue", "previous_message_id": 3 } }),
            "`thread.previous_message_id` must be a string",
        ),
    ] {
        assert_eq!(refused(MESSAGES, message(extra)).await.1, text);
    }
}

#[tokio::test]
async fn response_that_is_not_kept_has_openais_code() {
    let server = TestServer::new();
    let body = response(json!({ "previous_response_id": "resp_none" }));
    let answer = server.post(RESPONSES, body).await;
    let code = json!("previous_response_not_found");
    assert_eq!(answer.error(), (400, json!("previous_response_id"), code));
    let body = response(json!({ "conversation": "c" }));
    let answer = server.post(RESPONSES, body).await;
    let code = json!("unsupported_parameter");
    assert_eq!(answer.error(), (400, json!("conversation"), code));
}

#[tokio::test]
async fn what_a_response_repeats_is_bounded() {
    let pairs: serde_json::Map<String, Value> = (0..17)
        .map(|number| (number.to_string(), json!("x")))
        .collect();
    let format = json!({ "type": "json_schema", "name": "n", "schema": {}, "description": "x".repeat(20_000) });
    for (extra, param) in [
        (json!({ "metadata": pairs }), "metadata"),
        (json!({ "metadata": { "x".repeat(65): "x" } }), "metadata"),
        (
            json!({ "metadata": { "k": "x".repeat(513) } }),
            "metadata.k",
        ),
        (json!({ "metadata": { "k": 3 } }), "metadata.k"),
        (json!({ "metadata": "x" }), "metadata"),
        (json!({ "user": "x".repeat(513) }), "user"),
        (
            json!({ "prompt_cache_key": "x".repeat(513) }),
            "prompt_cache_key",
        ),
        (
            json!({ "safety_identifier": "x".repeat(513) }),
            "safety_identifier",
        ),
        (json!({ "service_tier": "x".repeat(513) }), "service_tier"),
        (
            json!({ "text": { "verbosity": "x".repeat(513) } }),
            "text.verbosity",
        ),
        (
            json!({ "text": { "format": format } }),
            "text.format.description",
        ),
    ] {
        let shown = extra.to_string();
        assert_eq!(
            refused(RESPONSES, response(extra)).await.0,
            param,
            "{:.80}",
            shown
        );
    }
}
