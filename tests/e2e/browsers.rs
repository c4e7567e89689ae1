//! Web pages and containers: the exchanges of a browser, and the names by which containers call their host.

use std::net::TcpStream;

use sanctum_tests::{Raw, Server};

use crate::auth::{TOKEN, bearer, requires_token};

const PAGE: &str = "origin: https://chat.example";
const CHAT: &str = r#"{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}"#;

fn asks(server: &Server, request: &str, headers: &[&str], body: &str) -> Raw {
    let at = server.http().base().strip_prefix("http://").unwrap();
    Raw::ask(TcpStream::connect(at).unwrap(), request, headers, body)
}

/// Whether a response has this header line, in any case.
fn has(answer: &Raw, line: &str) -> bool {
    let mut lines = answer.head.lines();
    lines.any(|have| have.eq_ignore_ascii_case(line))
}

#[tokio::test]
async fn page_of_a_listed_origin_chats_after_its_preflight() {
    let server = Server::start(["--allow-origin", "https://chat.example"]).await;
    let host = "host: localhost:1337";
    let preflight = [
        host,
        PAGE,
        "access-control-request-method: POST",
        "access-control-request-headers: content-type,x-stainless-lang",
        "access-control-request-private-network: true",
    ];
    let allowed = asks(&server, "OPTIONS /v1/chat/completions", &preflight, "");
    assert_eq!(
        (allowed.status, allowed.body.as_str()),
        (204, ""),
        "{}",
        allowed.head
    );
    for line in [
        "access-control-allow-origin: https://chat.example",
        "access-control-allow-headers: content-type,x-stainless-lang",
        "access-control-allow-private-network: true",
        "vary: Origin",
    ] {
        assert!(has(&allowed, line), "{line} is not in {}", allowed.head);
    }
    assert!(!allowed.head.to_lowercase().contains("credentials"));

    let json = "content-type: application/json";
    let chat = |body: &str| {
        asks(
            &server,
            "POST /v1/chat/completions",
            &[host, PAGE, json],
            body,
        )
    };
    let stream = CHAT.replace("\"max_tokens\"", "\"stream\": true, \"max_tokens\"");
    for (body, status) in [(CHAT, 200), (stream.as_str(), 200), ("{", 400)] {
        let answer = chat(body);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(has(
            &answer,
            "access-control-allow-origin: https://chat.example"
        ));
        let exposed = "access-control-expose-headers: sanctum-ignored-fields, sanctum-served-by, x-request-id, request-id, retry-after";
        assert!(has(&answer, exposed), "{}", answer.head);
    }

    // Another page is refused, and told nothing that it could read.
    let other = "origin: https://evil.example";
    let refused = [host, other, json];
    let refused = asks(&server, "POST /v1/chat/completions", &refused, CHAT);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("--allow-origin"), "{}", refused.body);
    assert!(!refused.head.to_lowercase().contains("access-control-allow"));
    let rebound = ["host: chat.example", PAGE, json];
    let rebound = asks(&server, "POST /v1/chat/completions", &rebound, CHAT);
    assert_eq!(rebound.status, 403, "{}", rebound.body);
}

#[tokio::test]
async fn page_needs_the_token_where_programs_need_it() {
    let (server, _file, _folder) = requires_token(&["--allow-origin", "*"]).await;
    let token = bearer(TOKEN);
    let preflight = [
        "host: localhost",
        PAGE,
        "access-control-request-method: GET",
        "access-control-request-headers: authorization",
    ];
    let allowed = asks(&server, "OPTIONS /v1/models", &preflight, "");
    assert_eq!(allowed.status, 204);
    for (headers, status) in [
        (vec!["host: localhost", PAGE], 401),
        (vec!["host: localhost", PAGE, &token], 200),
    ] {
        let answer = asks(&server, "GET /v1/models", &headers, "");
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(
            has(&answer, "access-control-allow-origin: *"),
            "{}",
            answer.head
        );
    }
}

#[tokio::test]
async fn container_reaches_its_host_by_the_allowed_name() {
    let server = Server::start(["--allow-host", "host.docker.internal"]).await;
    let status = |host: &str| asks(&server, "GET /v1/models", &[host], "");
    assert_eq!(status("host: host.docker.internal:1337").status, 200);
    let refused = status("host: gateway.docker.internal:1337");
    assert_eq!(refused.status, 403);
    for words in ["gateway.docker.internal:1337", "--allow-host"] {
        assert!(refused.body.contains(words), "{}", refused.body);
    }
}

#[tokio::test]
async fn any_name_reaches_the_model_where_that_is_configured() {
    let server = Server::start(["--any-model", "--strict-fields"]).await;
    let body = CHAT.replace("\"messages\"", "\"model\": \"gpt-4o\", \"messages\"");
    let headers = ["host: localhost", "content-type: application/json"];
    let answer = asks(&server, "POST /chat/completions", &headers, &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let model = format!("\"model\":\"{}\"", Server::BUILT_IN);
    assert!(answer.body.contains(&model), "{}", answer.body);
    let body = CHAT.replace("\"messages\"", "\"x_trace\": 1, \"messages\"");
    let answer = asks(&server, "POST /chat/completions", &headers, &body);
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("unknown field `x_trace`"),
        "{}",
        answer.body
    );
}
