//! By which names requests reach models and routes.

use sanctum_engine::schedule::FinishReason;
use serde_json::{Value, json};

use super::fixture::{TestServer, finished, token};

#[tokio::test]
async fn route_without_version_is_the_same_route() {
    let server = TestServer::new();
    let done = || vec![token("a"), finished(FinishReason::Stop, "")];
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (path, body) in [
        ("/chat/completions", json!({ "messages": messages })),
        ("/completions", json!({ "prompt": "hi" })),
        ("/responses", json!({ "input": "hi" })),
        (
            "/messages",
            json!({ "messages": messages, "max_tokens": 5 }),
        ),
    ] {
        let (_, answer) = server.ask(path, body, done()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        // One label, whichever form a client uses.
        let page = server.get("/metrics").await.text;
        let label = format!(r#"{{method="POST",route="/v1{path}",status="200"}} 1"#);
        assert!(page.contains(&label), "{label} is not in\n{page}");
    }
    let counted = server
        .post("/messages/count_tokens", json!({ "messages": messages }))
        .await;
    assert!(counted.json()["input_tokens"].is_u64(), "{}", counted.text);
    for path in ["/models", "/models/council", "/adapters"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    for path in ["/responses/resp_none", "/models/none"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    for path in ["/v1/health", "/v1/metrics", "/v1/v1/models"] {
        let (status, _, code) = server.get(path).await.error();
        assert_eq!((status, code), (404, json!("unknown_url")), "{path}");
    }
    assert_eq!(server.get("/chat/completions").await.status, 405);
}

#[tokio::test]
async fn alias_reaches_its_model_whose_id_the_answer_has() {
    let server = TestServer::with_aliases(&["gpt-4o", "claude-*"]);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (path, model) in [
        ("/v1/chat/completions", "gpt-4o"),
        ("/v1/messages", "claude-small"),
    ] {
        let body = json!({ "model": model, "messages": messages, "max_tokens": 5 });
        let events = vec![token("a"), finished(FinishReason::Stop, "")];
        let (_, answer) = server.ask(path, body, events).await;
        assert_eq!(answer.json()["model"], "council", "{}", answer.text);
    }
    let models = server.get("/v1/models").await.json();
    assert_eq!(models["data"].as_array().unwrap().len(), 1);
    assert_eq!(models["data"][0]["aliases"], json!(["gpt-4o", "claude-*"]));
    let one = server.get("/v1/models/claude-large").await;
    assert_eq!(one.json()["id"], "council");
    let body = json!({ "model": "gpt-4o", "adapter": null });
    // What changes a model names it exactly.
    let swap = server.post("/v1/adapters", body).await;
    assert_eq!(
        swap.error(),
        (404, json!("model"), json!("model_not_found"))
    );
    let body = json!({ "model": "gpt-5", "messages": messages });
    let unknown = server.post("/v1/chat/completions", body).await;
    assert_eq!(
        unknown.error(),
        (404, json!("model"), json!("model_not_found"))
    );
    assert!(unknown.text.contains("--any-model"), "{}", unknown.text);
    assert_ne!(unknown.json()["error"]["message"], Value::Null);
}
