use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use super::fixture::{CONTEXT, TestResponse, TestServer, loading, local, post};
use crate::api::body;

const CHAT: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "hi" }] })
}

#[tokio::test]
async fn unknown_places_and_methods() {
    let server = TestServer::new();
    assert_eq!(
        server.get("/v1/embeddings").await.error(),
        (404, Value::Null, json!("unknown_url"))
    );
    let answer = server.get(CHAT).await;
    assert_eq!(
        answer.error(),
        (405, Value::Null, json!("method_not_allowed"))
    );
    assert_eq!(answer.headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn unknown_model_is_a_404_with_the_known_ones() {
    let server = TestServer::new();
    let mut body = hello();
    body["model"] = "gpt-4o".into();
    let answer = server.post(CHAT, body).await;
    assert_eq!(
        answer.error(),
        (404, json!("model"), json!("model_not_found"))
    );
    assert!(answer.text.contains("this server has council"));
    let answer = server.get("/v1/models/org/other").await;
    assert_eq!(
        answer.error(),
        (404, json!("model"), json!("model_not_found"))
    );
}

#[tokio::test]
async fn bodies_that_are_not_json_or_too_large() {
    let server = TestServer::new();
    let send = |kind: &'static str, body: String| {
        let request = Request::post(CHAT)
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body));
        server.send(request.unwrap())
    };
    let form = send("application/x-www-form-urlencoded", hello().to_string()).await;
    assert_eq!(
        form.error(),
        (415, Value::Null, json!("unsupported_media_type"))
    );
    let broken = send(
        "application/json; charset=utf-8",
        "{\"messages\": [}".into(),
    )
    .await;
    assert_eq!(broken.error(), (400, Value::Null, Value::Null));
    assert!(broken.text.contains("line 1 column 15"), "{}", broken.text);
    let large = send("application/json", " ".repeat(body::LARGEST + 1)).await;
    assert_eq!(large.error(), (413, Value::Null, json!("body_too_large")));
}

#[tokio::test]
async fn prompt_that_does_not_fit_is_a_400_with_the_numbers() {
    let server = TestServer::new();
    let content = "x".repeat(CONTEXT);
    let answer = server
        .post(
            CHAT,
            json!({ "messages": [{ "role": "user", "content": content }] }),
        )
        .await;
    assert_eq!(
        answer.error(),
        (400, json!("messages"), json!("context_length_exceeded"))
    );
    assert!(
        answer.text.contains("at least 1006 tokens") && answer.text.contains("holds 1000"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn error_raised_by_the_template_is_a_400_with_its_message() {
    let server = TestServer::new();
    let messages = json!([{ "role": "user", "content": "forbidden" }]);
    let answer = server.post(CHAT, json!({ "messages": messages })).await;
    assert_eq!(answer.error(), (400, json!("messages"), Value::Null));
    assert!(
        answer.text.contains("This content is forbidden."),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn full_queue_is_a_429_with_retry_after() {
    let server = TestServer::with_queue(0);
    let waiting = tokio::spawn({
        let router = server.router.clone();
        async move { tower::ServiceExt::oneshot(router, post(CHAT, hello())).await }
    });
    let _job = server.job().await;
    let answer = server.post(CHAT, hello()).await;
    assert_eq!(answer.error(), (429, Value::Null, json!("queue_full")));
    let seconds: u64 = answer.headers[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(seconds >= 1);
    waiting.abort();
}

#[tokio::test]
async fn before_and_after_its_time_the_server_is_a_503() {
    let app = loading();
    let response = tower::ServiceExt::oneshot(local(&app), post(CHAT, hello()))
        .await
        .unwrap();
    let answer = TestResponse::read(response).await;
    assert_eq!(answer.error(), (503, Value::Null, json!("model_loading")));
    assert!(answer.headers.contains_key(header::RETRY_AFTER));

    let server = TestServer::new();
    server
        .app
        .models
        .engines()
        .for_each(|engine| engine.drain());
    let answer = server.post(CHAT, hello()).await;
    assert_eq!(answer.error(), (503, Value::Null, json!("shutting_down")));
}

#[tokio::test]
async fn every_error_of_messages_has_anthropics_shape() {
    let server = TestServer::new();
    let body = || {
        json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 5 }).to_string()
    };
    let request = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from(body())).unwrap()
    };
    let kind = ("content-type", "application/json");
    for path in [
        "/v1/messages",
        "/messages",
        "/v1/messages/count_tokens",
        "/v1/messages?beta=true",
    ] {
        for (request, status, error) in [
            (request("GET", path, &[kind]), 405, "invalid_request_error"),
            (
                request("POST", path, &[("content-type", "text/plain")]),
                415,
                "invalid_request_error",
            ),
            (
                request("POST", path, &[kind, ("origin", "https://example.com")]),
                403,
                "permission_error",
            ),
            (
                request("POST", path, &[kind, ("content-encoding", "gzip")]),
                415,
                "invalid_request_error",
            ),
            (
                request(
                    "POST",
                    &format!("{path}/none").replace("?beta=true/", "/"),
                    &[kind],
                ),
                404,
                "not_found_error",
            ),
        ] {
            let answer = server.send(request).await;
            let text = &answer.text;
            assert_eq!(answer.status, status, "{path}: {text}");
            let body = answer.json();
            assert_eq!(body["type"], "error", "{path}: {text}");
            assert_eq!(body["error"]["type"], error, "{path}: {text}");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
            assert_eq!(
                body["request_id"],
                answer.headers["request-id"].to_str().unwrap()
            );
            assert_eq!(answer.headers["request-id"], answer.headers["x-request-id"]);
            assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
        }
    }
    let answer = server.send(request("GET", "/v1/messages", &[])).await;
    assert_eq!(answer.headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn path_that_is_not_text_is_a_json_error() {
    let server = TestServer::new();
    for path in [
        "/v1/responses/%00%ff",
        "/responses/%ff",
        "/v1/models/%ff",
        "/models/a/%ff",
    ] {
        let methods: &[&str] = match path.contains("models") {
            true => &["GET"],
            false => &["GET", "DELETE"],
        };
        for &method in methods {
            let request = Request::builder().method(method).uri(path);
            let answer = server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.error().0, 400, "{method} {path}: {}", answer.text);
        }
    }
}
