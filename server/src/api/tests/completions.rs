use sanctum_engine::schedule::FinishReason;
use serde_json::{Value, json};

use super::fixture::{TestServer, finished, likely, token};

const PATH: &str = "/v1/completions";

#[tokio::test]
async fn text_and_tokens_reach_the_engine_unchanged() {
    let server = TestServer::new();
    for prompt in [
        json!("a<b"),
        json!(["a<b"]),
        json!([97, 60, 98]),
        json!([[97, 60, 98]]),
    ] {
        let events = vec![token("x"), finished(FinishReason::Length, "y")];
        let (job, answer) = server.ask(PATH, json!({ "prompt": prompt }), events).await;
        assert_eq!(job.request.prompt, b"a<b".map(u32::from));
        let answer = answer.json();
        assert_eq!(answer["object"], "text_completion");
        assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
        let choice =
            json!({ "index": 0, "text": "xy", "logprobs": null, "finish_reason": "length" });
        assert_eq!(answer["choices"], json!([choice]));
        assert_eq!(answer["usage"]["completion_tokens"], 2);
    }
}

#[tokio::test]
async fn stream_has_the_text_the_finish_reason_and_the_usage() {
    let server = TestServer::new();
    let body = json!({ "prompt": "a", "stream": true, "stream_options": { "include_usage": true }, "logprobs": 1 });
    let events = vec![
        likely("x", -0.5),
        likely("y", -1.5),
        finished(FinishReason::Stop, ""),
    ];
    let (job, answer) = server.ask(PATH, body, events).await;
    assert_eq!(job.request.logprobs, Some(1));
    let chunks = answer.chunks();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "xy");
    assert_eq!(
        chunks[1]["choices"][0]["logprobs"]["text_offset"],
        json!([1])
    );
    assert_eq!(
        chunks[1]["choices"][0]["logprobs"]["token_logprobs"],
        json!([-1.5])
    );
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[3]["usage"]["prompt_tokens"], 5);
    assert_eq!(chunks.len(), 4);
}

#[tokio::test]
async fn tokens_that_the_model_does_not_have_are_refused() {
    let server = TestServer::new();
    let answer = server.post(PATH, json!({ "prompt": [1, 256] })).await;
    assert_eq!(answer.error(), (400, json!("prompt"), Value::Null));
    let answer = server
        .post(PATH, json!({ "prompt": "a", "logit_bias": { "256": 1 } }))
        .await;
    assert_eq!(answer.error(), (400, json!("logit_bias"), Value::Null));
}
