//! Requests that are refused, and the errors.

use async_openai::types::chat::CreateChatCompletionRequest;
use sanctum_tests::Server;
use serde_json::{Value, json};

use crate::openai::{SUM, ask, client, refusal};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn unknown_model_is_a_404() {
    let server = Server::start([""; 0]).await;
    let request = CreateChatCompletionRequest {
        model: "sanctum-tinny".into(),
        ..ask(SUM)
    };
    let error = refusal(&server, request).await;
    assert_eq!(error.status_code, 404);
    assert_eq!(error.api_error.code.as_deref(), Some("model_not_found"));
    let message = error.api_error.message;
    assert!(
        message.contains("`sanctum-tinny`") && message.contains("`sanctum-tiny`"),
        "{message}"
    );
}

#[tokio::test]
async fn too_many_answers_are_refused_by_name() {
    let server = Server::start([""; 0]).await;
    let request = CreateChatCompletionRequest {
        n: Some(17),
        ..ask(SUM)
    };
    let error = refusal(&server, request).await;
    assert_eq!(error.status_code, 400);
    assert_eq!(error.api_error.param.as_deref(), Some("n"));
}

#[tokio::test]
async fn prompt_that_does_not_fit_is_refused_with_the_numbers() {
    let server = Server::start(["--max-context", "64"]).await;
    let error = refusal(&server, ask(&"word ".repeat(200))).await;
    assert_eq!(error.status_code, 400);
    assert_eq!(
        error.api_error.code.as_deref(),
        Some("context_length_exceeded")
    );
    let numbers: Vec<usize> = error
        .api_error
        .message
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    assert!(
        matches!(numbers[..], [prompt, 64] if prompt > 64),
        "{}",
        error.api_error.message
    );
}

#[tokio::test]
async fn unknown_or_wrong_field_is_named() {
    let server = Server::start([""; 0]).await;
    let long = "x".repeat(300);
    for (field, value, param) in [
        ("max_token", json!(5), "max_token"),
        ("temperature", json!("hot"), "temperature"),
        ("temperature", json!(-1), "temperature"),
        ("messages", json!([]), "messages"),
        (
            "messages",
            json!([{ "role": "user", "content": 4 }]),
            "messages[0].content",
        ),
        (
            "messages",
            json!([{ "role": long, "content": "hi" }]),
            "messages[0].role",
        ),
        ("stop", json!(["a", 4]), "stop[1]"),
        (
            "response_format",
            json!({ "type": "xml" }),
            "response_format.type",
        ),
        ("logit_bias", json!({ "100000": 1 }), "logit_bias"),
        (
            "chat_template_kwargs",
            json!(["enable_thinking"]),
            "chat_template_kwargs",
        ),
    ] {
        let mut body = json!({ "messages": [{ "role": "user", "content": SUM }] });
        body[field] = value;
        let answer = server.http().post(CHAT, &body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        let error = &answer.json()["error"];
        assert_eq!(error["param"], param);
        assert_eq!(error["type"], "invalid_request_error");
        assert!(
            error["message"].as_str().unwrap().contains(param),
            "{error}"
        );
    }
}

#[tokio::test]
async fn malformed_request_is_refused_in_the_same_shape() {
    let server = Server::start([""; 0]).await;
    let http = server.http();
    let body = json!({ "messages": [{ "role": "user", "content": SUM }] }).to_string();
    for (answer, status) in [
        (http.get("/v1/nothing").await, 404),
        (http.get("/v1/models/sanctum-tinny").await, 404),
        (http.get(CHAT).await, 405),
        (
            http.post_text(CHAT, "application/json", "{\"messages\": [")
                .await,
            400,
        ),
        (http.post_text(CHAT, "application/json", "").await, 400),
        (http.post_text(CHAT, "application/json", "[1]").await, 400),
        (http.post_text(CHAT, "text/plain", &body).await, 415),
        (
            http.post_text(CHAT, "application/json", &" ".repeat((16 << 20) + 1))
                .await,
            413,
        ),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text);
        let error = &answer.json()["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{error}"
        );
        assert_eq!(error.as_object().unwrap().len(), 4, "{error}");
    }
}

#[tokio::test]
async fn models_are_listed() {
    let server = Server::start([""; 0]).await;
    let client = client(&server);
    let models = client.models().list().await.unwrap();
    let ids: Vec<&str> = models.data.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(ids, [Server::BUILT_IN]);
    let model = client.models().retrieve(Server::BUILT_IN).await.unwrap();
    assert_eq!(model, models.data[0]);
    let card: Value = server.http().get("/v1/models/sanctum-tiny").await.json();
    assert_eq!(card["max_model_len"], 2048);
}
