use http_body_util::BodyExt;
use sanctum_engine::prefix::Reuse;
use sanctum_engine::schedule::{Event, FinishReason, TokenLogprob};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::fixture::{TestResponse, TestServer, finished, likely, post, token};

const PATH: &str = "/v1/chat/completions";

fn hello(extra: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    body
}

fn said(words: &[&str]) -> Vec<Event> {
    let mut events: Vec<Event> = words.iter().map(|word| token(word)).collect();
    events.push(finished(FinishReason::Stop, ""));
    events
}

#[tokio::test]
async fn whole_completion_has_openais_shape() {
    let server = TestServer::new();
    let body = hello(
        json!({ "model": "council", "temperature": 0, "seed": 7, "stop": "\n", "max_tokens": 9 }),
    );
    let (job, answer) = server.ask(PATH, body, said(&["Hel", "", "lo"])).await;

    assert_eq!(answer.status, 200);
    let mut answer = answer.json();
    let id = answer["id"].take();
    assert!(id.as_str().unwrap().starts_with("chatcmpl-"));
    assert!(answer["created"].take().as_u64().unwrap() > 1_700_000_000);
    let expected = json!({
        "id": null, "object": "chat.completion", "created": null, "model": "council", "system_fingerprint": "fp_test",
        "choices": [{
            "index": 0, "message": { "role": "assistant", "content": "Hello" }, "logprobs": null, "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7,
            "prompt_tokens_details": { "cached_tokens": 3 },
            "completion_tokens_details": { "reasoning_tokens": 0 },
        },
    });
    assert_eq!(answer, expected);

    assert_eq!(job.request.prompt, b"<user>hi".map(u32::from));
    assert_eq!(job.request.sampling.seed, 7);
    assert_eq!(job.request.stop, ["\n"]);
    assert_eq!(job.request.max_tokens, 9);
    assert_eq!(job.request.logprobs, None);
}

#[tokio::test]
async fn cache_salt_and_cache_prompt_decide_what_is_reused() {
    let server = TestServer::new();
    let reuse = async |extra: Value| {
        let (job, answer) = server.ask(PATH, hello(extra), said(&["x"])).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        job.request.reuse
    };
    let plain = reuse(json!({})).await;
    assert_ne!(plain, Reuse::Off);
    // Advice for providers that bill for their cache.
    let advice =
        json!({ "prompt_cache_key": "k", "prompt_cache_retention": "24h", "cache_prompt": true });
    assert_eq!(reuse(advice).await, plain);
    let salted = reuse(json!({ "cache_salt": "a" })).await;
    assert_ne!(salted, plain);
    assert_eq!(reuse(json!({ "cache_salt": "a" })).await, salted);
    assert_eq!(
        reuse(json!({ "cache_prompt": false, "cache_salt": "a" })).await,
        Reuse::Off
    );
}

#[tokio::test]
async fn without_max_tokens_the_context_is_the_limit() {
    let server = TestServer::new();
    let (job, answer) = server.ask(PATH, hello(json!({})), said(&["x"])).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        job.request.max_tokens,
        super::fixture::CONTEXT - job.request.prompt.len()
    );
}

#[tokio::test]
async fn stream_begins_with_the_role_and_ends_with_usage_and_done() {
    let server = TestServer::new();
    let body = hello(json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let events = vec![
        token("Hel"),
        token(""),
        token("l"),
        finished(FinishReason::Length, "o"),
    ];
    let (_, answer) = server.ask(PATH, body, events).await;

    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let chunks = answer.chunks();
    let deltas: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"])
        .collect();
    assert_eq!(deltas[0], &json!({ "role": "assistant", "content": "" }));
    assert_eq!(deltas[1], &json!({ "content": "Hel" }));
    assert_eq!(deltas[2], &json!({ "content": "l" }));
    assert_eq!(deltas[3], &json!({ "content": "o" }));
    assert_eq!(deltas[4], &json!({}));
    let ends: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["finish_reason"])
        .collect();
    assert_eq!(
        ends[..5],
        [
            &Value::Null,
            &Value::Null,
            &Value::Null,
            &Value::Null,
            &json!("length")
        ]
    );

    let last = &chunks[5];
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 7);
    assert!(
        chunks[..5]
            .iter()
            .all(|chunk| chunk.get("usage") == Some(&Value::Null))
    );
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk")
    );
}

#[tokio::test]
async fn stream_has_no_usage_unless_requested() {
    let server = TestServer::new();
    let (_, answer) = server
        .ask(PATH, hello(json!({ "stream": true })), said(&["x"]))
        .await;
    assert!(
        answer
            .chunks()
            .iter()
            .all(|chunk| chunk.get("usage").is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn silent_stream_sends_comments() {
    let server = TestServer::new();
    let request = post(PATH, hello(json!({ "stream": true })));
    let response = server.router.clone().oneshot(request).await.unwrap();
    let job = server.job().await;
    let mut body = response.into_body();
    let mut next = async || {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    assert!(next().await.starts_with("data: "), "the role comes at once");
    // The clock jumps ahead whenever there is nothing to do.
    assert!(next().await.starts_with(':'));
    assert!(next().await.starts_with(':'));
    job.events.try_send(token("late")).unwrap();
    assert!(next().await.contains("late"));
}

#[tokio::test]
async fn failed_stream_ends_with_the_error_and_without_done() {
    let server = TestServer::new();
    let events = vec![token("Hel"), Event::Failed("a kernel failed".into())];
    let (_, answer) = server
        .ask(PATH, hello(json!({ "stream": true })), events)
        .await;
    let last: Value = serde_json::from_str(answer.events().last().unwrap()).unwrap();
    assert_eq!(last["error"]["message"], "a kernel failed");
    assert_eq!(last["error"]["type"], "server_error");
    assert!(!answer.text.contains("[DONE]"));
}

#[tokio::test]
async fn failed_completion_is_a_500() {
    let server = TestServer::new();
    let (_, answer) = server.ask(PATH, hello(json!({})), vec![token("Hel")]).await;
    assert_eq!(answer.error(), (500, Value::Null, json!("engine_failed")));
}

const CALL: [&str; 3] = [
    "Let me see.\n<tool_call>\n<function=add>\n<parameter=a>\n",
    "1\n</parameter>\n</function>",
    "\n</tool_call>",
];

fn with_tools(extra: Value) -> Value {
    let parameters = json!({ "type": "object", "properties": { "a": { "type": "integer" } } });
    let mut body = hello(json!({
        "tools": [{ "type": "function", "function": { "name": "add", "parameters": parameters } }],
    }));
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn tool_calls_are_separated_from_content() {
    let server = TestServer::new();
    let (job, answer) = server.ask(PATH, with_tools(json!({})), said(&CALL)).await;
    assert_eq!(job.request.prompt, b"<user>hi<tools>1".map(u32::from));
    let choice = &answer.json()["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "Let me see.");
    let call = &choice["message"]["tool_calls"][0];
    assert!(call["id"].as_str().unwrap().starts_with("call_"));
    assert_eq!(
        call["function"],
        json!({ "name": "add", "arguments": "{\"a\":1}" })
    );
    assert_eq!(call.get("index"), None);
}

#[tokio::test]
async fn call_of_a_message_has_an_id_as_anthropics() {
    let server = TestServer::new();
    let tool = json!({ "name": "add", "input_schema": { "type": "object" } });
    let body = json!({
        "messages": [{ "role": "user", "content": "hi" }], "tools": [tool], "max_tokens": 50,
    });
    let (_, answer) = server.ask("/v1/messages", body, said(&CALL)).await;
    let id = answer.json()["content"][1]["id"].clone();
    assert!(id.as_str().unwrap().starts_with("toolu_"), "{id}");
}

#[tokio::test]
async fn usage_counts_the_tokens_of_the_reasoning() {
    let server = TestServer::new();
    let words = ["Two", " and", " two.\n", "</think>", "\n\n", "4", "."];
    let events = || {
        let mut events: Vec<Event> = words.iter().map(|word| token(word)).collect();
        let mut last = finished(FinishReason::Stop, "");
        if let Event::Finished { usage, .. } = &mut last {
            usage.completion_tokens = words.len();
        }
        events.push(last);
        events
    };
    let thinking = json!({ "enable_thinking": true });
    let (_, answer) = server.ask(PATH, hello(thinking.clone()), events()).await;
    let usage = answer.json()["usage"].clone();
    let details = json!({ "reasoning_tokens": 4 });
    assert_eq!(usage["completion_tokens_details"], details, "{usage}");
    let (_, answer) = server.ask(PATH, hello(json!({})), events()).await;
    let usage = answer.json()["usage"].clone();
    let details = json!({ "reasoning_tokens": 0 });
    assert_eq!(usage["completion_tokens_details"], details, "{usage}");
    let streamed = json!({
        "enable_thinking": true, "stream": true, "stream_options": { "include_usage": true },
    });
    let (_, answer) = server.ask(PATH, hello(streamed), events()).await;
    let usage = answer.chunks().last().unwrap()["usage"].clone();
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 4);
    let body = json!({ "input": "hi", "reasoning": { "effort": "low" } });
    let (_, answer) = server.ask("/v1/responses", body, events()).await;
    let usage = answer.json()["usage"].clone();
    let details = json!({ "reasoning_tokens": 4 });
    assert_eq!(usage["output_tokens_details"], details, "{usage}");
    // An answer that ended within its reasoning has nothing else.
    let cut = vec![
        token("Two"),
        token(" and"),
        finished(FinishReason::Length, ""),
    ];
    let (_, answer) = server.ask(PATH, hello(thinking), cut).await;
    let usage = answer.json()["usage"].clone();
    assert_eq!(
        usage["completion_tokens_details"]["reasoning_tokens"], 2,
        "{usage}"
    );
}

#[tokio::test]
async fn completion_of_calls_alone_has_no_content() {
    let server = TestServer::new();
    let call = CALL.concat().replace("Let me see.\n", "");
    let (_, answer) = server
        .ask(PATH, with_tools(json!({})), said(&[&call]))
        .await;
    assert_eq!(
        answer.json()["choices"][0]["message"]["content"],
        Value::Null
    );
}

#[tokio::test]
async fn calls_are_streamed_whole() {
    let server = TestServer::new();
    let (_, answer) = server
        .ask(PATH, with_tools(json!({ "stream": true })), said(&CALL))
        .await;
    let chunks = answer.chunks();
    let calls: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| call.is_object())
        .collect();
    // The name comes once, with the id; then only arguments.
    assert_eq!(calls[0]["type"], "function");
    assert_eq!(
        calls[0]["function"],
        json!({ "name": "add", "arguments": "" })
    );
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
    let more: String = calls[1..]
        .iter()
        .map(|call| {
            assert_eq!((&call["index"], &call["id"]), (&json!(0), &Value::Null));
            call["function"]["arguments"].as_str().unwrap()
        })
        .collect();
    assert_eq!(more, "{\"a\":1}");
    assert_eq!(
        chunks.last().unwrap()["choices"][0]["finish_reason"],
        "tool_calls"
    );
}

#[tokio::test]
async fn tool_choice_none_leaves_calls_as_text() {
    let server = TestServer::new();
    let (job, answer) = server
        .ask(
            PATH,
            with_tools(json!({ "tool_choice": "none" })),
            said(&CALL),
        )
        .await;
    assert_eq!(job.request.prompt, b"<user>hi".map(u32::from));
    assert_eq!(
        answer.json()["choices"][0]["message"]["content"],
        CALL.concat()
    );
}

#[tokio::test]
async fn thoughts_come_apart_from_the_answer() {
    let server = TestServer::new();
    let thinking = json!({ "chat_template_kwargs": { "enable_thinking": true } });
    let words = ["Two and", " two.\n</thi", "nk>\n\n4"];
    let (_, answer) = server
        .ask(PATH, hello(thinking.clone()), said(&words))
        .await;
    let message = &answer.json()["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Two and two.");
    assert_eq!(message["content"], "4");

    let mut streamed = hello(thinking);
    streamed["stream"] = true.into();
    let (_, answer) = server.ask(PATH, streamed, said(&words)).await;
    let chunks = answer.chunks();
    let text = |field: &str| -> String {
        let text = |chunk: &Value| {
            chunk["choices"][0]["delta"][field]
                .as_str()
                .map(str::to_owned)
        };
        chunks.iter().filter_map(text).collect()
    };
    assert_eq!(text("reasoning_content"), "Two and two.");
    assert_eq!(text("content"), "4");
}

#[tokio::test]
async fn log_probabilities_come_with_their_tokens() {
    let server = TestServer::new();
    let wanted = json!({ "logprobs": true, "top_logprobs": 2 });
    let events = || {
        vec![
            likely("4", -0.25),
            likely("", -1.0),
            finished(FinishReason::Stop, ""),
        ]
    };
    let (job, answer) = server.ask(PATH, hello(wanted.clone()), events()).await;
    assert_eq!(job.request.logprobs, Some(2));
    let content = &answer.json()["choices"][0]["logprobs"]["content"];
    assert_eq!(content.as_array().unwrap().len(), 2);
    assert_eq!(content[0]["token"], "4");
    assert_eq!(content[0]["logprob"], -0.25);
    assert_eq!(content[0]["bytes"], json!([52]));
    assert_eq!(content[0]["top_logprobs"][1]["token"], "?");

    let mut streamed = hello(wanted);
    streamed["stream"] = true.into();
    let (_, answer) = server.ask(PATH, streamed, events()).await;
    let tokens: Vec<Value> = answer
        .chunks()
        .iter()
        .filter_map(|chunk| {
            chunk["choices"][0]["logprobs"]["content"]
                .as_array()
                .cloned()
        })
        .flatten()
        .map(|token| token["logprob"].clone())
        .collect();
    assert_eq!(tokens, [json!(-0.25), json!(-1.0)]);
}

#[tokio::test]
async fn memory_of_log_probabilities_is_reserved_until_the_body_is_read() {
    let server = TestServer::new();
    let admission = server
        .app
        .models
        .engines()
        .next()
        .unwrap()
        .admission()
        .clone();
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let body = match path {
            "/v1/completions" => json!({ "prompt": "hi", "logprobs": 1, "max_tokens": 100 }),
            _ => json!({
                "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 100,
                "logprobs": true, "top_logprobs": 1,
            }),
        };
        let script = async {
            let mut job = server.job().await;
            assert!(job.memory.begin());
            assert_eq!(admission.reserved(), 100 * TokenLogprob::bytes(1));
            for event in [
                likely("a", -0.5),
                likely("b", -0.5),
                finished(FinishReason::Stop, ""),
            ] {
                job.events.try_send(event).unwrap();
            }
        };
        let response = server.router.clone().oneshot(post(path, body));
        let (response, ()) = tokio::join!(response, script);
        // The sequence is gone, and its answer is not written yet.
        assert_eq!(admission.reserved(), 2 * TokenLogprob::bytes(1), "{path}");
        let answer = TestResponse::read(response.unwrap()).await;
        assert!(answer.json()["choices"][0]["logprobs"].is_object());
        assert_eq!(admission.reserved(), 0, "{path}");
    }
}

#[tokio::test]
async fn later_system_message_is_a_reminder_where_the_template_refuses_it() {
    let server = TestServer::new();
    let messages = json!([
        { "role": "user", "content": "a" }, { "role": "system", "content": "b" }, { "role": "user", "content": "c" },
    ]);
    let (job, answer) = server
        .ask(PATH, json!({ "messages": messages }), said(&["x"]))
        .await;
    let prompt = "<user>a<user><system-reminder>\nb\n</system-reminder>\nc";
    assert_eq!(
        job.request.prompt,
        prompt.bytes().map(u32::from).collect::<Vec<_>>()
    );
    assert_eq!(answer.headers["sanctum-ignored-fields"], "messages[1].role");
}

#[tokio::test]
async fn final_message_of_the_assistant_is_continued() {
    let server = TestServer::new();
    let messages =
        json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": "Sure: " }]);
    let body = json!({ "messages": messages });
    let (job, _) = server.ask(PATH, body.clone(), said(&["x"])).await;
    let prompt = "<user>a<assistant>Sure:";
    assert_eq!(
        job.request.prompt,
        prompt.bytes().map(u32::from).collect::<Vec<_>>()
    );
    let mut whole = body;
    whole["continue_final_message"] = false.into();
    let (job, _) = server.ask(PATH, whole, said(&["x"])).await;
    assert_eq!(job.request.prompt.len(), prompt.len() + 1);
}
