//! The console's page and the status that it shows. What a browser makes of the page is tested in `tests/browser`.

use std::net::TcpStream;

use sanctum_tests::{Process, Raw, Server, Signal, within};
use serde_json::{Value, json};

use crate::auth::{TOKEN, bearer, secret};
use crate::openai::{COUNT, SUM};

const FILES: [(&str, &str); 4] = [
    ("/", "text/html; charset=utf-8"),
    ("/console.css", "text/css; charset=utf-8"),
    ("/console.js", "text/javascript; charset=utf-8"),
    ("/console.svg", "image/svg+xml"),
];
const CHAT: &str = "/v1/chat/completions";

fn asks(server: &Server, request: &str, headers: &[&str], body: &str) -> Raw {
    let at = server.http().base().strip_prefix("http://").unwrap();
    Raw::ask(TcpStream::connect(at).unwrap(), request, headers, body)
}

async fn status(server: &Server) -> Value {
    let answer = server.http().get("/status").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Requests `/status` until it satisfies `wanted`.
async fn status_shows(server: &Server, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    within(what, async {
        loop {
            let status = status(server).await;
            if wanted(&status) {
                return status;
            }
        }
    })
    .await
}

/// A server whose clients need the token wherever they are.
async fn locked() -> (tempfile::TempDir, Server) {
    let (folder, file) = secret();
    let file = file.to_str().unwrap();
    let args = ["--loopback", "required", "--auth-token-file", file];
    (folder, Server::start(args).await)
}

#[tokio::test]
async fn page_and_its_files_are_served_under_a_strict_policy() {
    let server = Server::start([""; 0]).await;
    for (path, kind) in FILES {
        let answer = server.http().get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let header = |name: &str| answer.headers[name].to_str().unwrap();
        assert_eq!(header("content-type"), kind);
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        let policy = header("content-security-policy");
        let directives: Vec<&str> = policy.split("; ").collect();
        for wanted in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(directives.contains(&wanted), "{wanted} is not in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    // There is no other file, and the page takes no other method.
    assert_eq!(server.http().get("/console.map").await.status, 404);
    assert_eq!(server.http().post("/", &json!({})).await.status, 405);
}

#[tokio::test]
async fn page_is_served_without_the_token_and_the_status_is_not() {
    let (_folder, server) = locked().await;
    let host = "host: localhost";
    for (path, _) in FILES {
        let answer = asks(&server, &format!("GET {path}"), &[host], "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(!answer.body.contains(TOKEN));
    }
    let token = bearer(TOKEN);
    for (request, headers, expected) in [
        ("HEAD /", vec![host], 200),
        ("POST /", vec![host], 401),
        ("GET /console.map", vec![host], 401),
        ("GET /status", vec![host], 401),
        (
            "GET /status",
            vec![host, "authorization: Bearer wrong"],
            401,
        ),
        ("GET /status", vec![host, &token], 200),
        ("GET /metrics", vec![host], 401),
        ("GET /v1/models", vec![host], 401),
    ] {
        let answer = asks(&server, request, &headers, "");
        assert_eq!(answer.status, expected, "{request} {headers:?}");
    }
    let status = asks(&server, "GET /status", &[host, &token], "");
    assert!(
        status
            .head
            .to_lowercase()
            .contains("cache-control: no-store")
    );
    let status = &status.body[status.body.find('{').unwrap()..=status.body.rfind('}').unwrap()];
    assert!(!status.contains(TOKEN));
    let status: Value = serde_json::from_str(status).unwrap();
    assert_eq!(status["clients"][0]["client"], "loopback with token");
    assert_eq!(status["clients"][0]["auth"], "bearer");
}

#[tokio::test]
async fn only_the_servers_own_page_needs_no_token_on_this_machine() {
    let server = Server::start([""; 0]).await;
    let address = server.http().base().strip_prefix("http://").unwrap();
    let port = address.rsplit(':').next().unwrap();
    let body =
        json!({ "messages": [{ "role": "user", "content": SUM }], "max_tokens": 1 }).to_string();
    let json = "content-type: application/json";
    for (host, origin, more, expected) in [
        (address, format!("http://{address}"), None, 200),
        (
            address,
            format!("http://{address}"),
            Some("sec-fetch-site: same-origin"),
            200,
        ),
        (
            &format!("localhost:{port}"),
            format!("http://localhost:{port}"),
            None,
            200,
        ),
        // A page of another port, of another name, of another scheme, and one whose name was rebound to this machine.
        (address, "http://127.0.0.1:3000".to_owned(), None, 403),
        (address, format!("http://localhost:{port}"), None, 403),
        (address, format!("https://{address}"), None, 403),
        (address, "null".to_owned(), None, 403),
        (
            address,
            format!("http://{address}"),
            Some("sec-fetch-site: cross-site"),
            403,
        ),
        ("evil.example", "http://evil.example".to_owned(), None, 403),
    ] {
        let lines = [format!("host: {host}"), format!("origin: {origin}")];
        let mut headers = vec![lines[0].as_str(), &lines[1], json];
        headers.extend(more);
        let answer = asks(&server, &format!("POST {CHAT}"), &headers, &body);
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.body);
        // The page reads its own answers without CORS, and no other page may read any.
        assert!(!answer.head.to_lowercase().contains("access-control-allow"));
    }
}

#[tokio::test]
async fn status_shows_work_slots_memory_and_who_asks() {
    let server = Server::start([""; 0]).await;
    let idle = status(&server).await;
    assert_eq!(idle["status"], "ok");
    assert_eq!(idle["version"], env!("CARGO_PKG_VERSION"));
    let model = &idle["models"][0];
    assert_eq!(model["id"], Server::BUILT_IN);
    assert_eq!(
        (&model["phase"], &model["in_flight"]),
        (&json!("ready"), &json!(0))
    );
    assert!(model["slots"].as_u64() > Some(0));
    assert!(model["memory"]["weights_bytes"].as_u64() > Some(0));
    assert!(model["memory"]["sequences_limit_bytes"].as_u64() > Some(0));
    assert_eq!(model["memory"]["sequences_reserved_bytes"], 0);
    assert_eq!(model["prefix_cache"]["enabled"], true);
    assert_eq!(idle["fronts"], json!([]));
    assert_eq!(idle["refusals"], json!([]));

    let busy = server.stream_of(2000).await;
    let shown = status_shows(&server, "the stream", |status| {
        status["clients"][0]["running"] == 1
    })
    .await;
    let model = &shown["models"][0];
    assert_eq!(model["in_flight"], 1);
    assert!(model["memory"]["sequences_reserved_bytes"].as_u64() > Some(0));
    let client = &shown["clients"][0];
    assert_eq!(
        (&client["client"], &client["auth"]),
        (&json!("loopback"), &json!("loopback"))
    );
    assert_eq!(
        (&client["waiting"], &client["idle_seconds"]),
        (&json!(0), &json!(0.0))
    );
    let tokens = |shown: &Value| shown["models"][0]["completion_tokens_total"].as_u64();
    let more = |status: &Value| tokens(status) > tokens(&shown);
    status_shows(&server, "more tokens", more).await;
    drop(busy);
    status_shows(&server, "rest", |status| {
        status["clients"][0]["running"] == 0 && status["models"][0]["in_flight"] == 0
    })
    .await;
}

#[tokio::test]
async fn status_counts_reused_prompt_tokens() {
    let server = Server::start([""; 0]).await;
    let body =
        json!({ "messages": [{ "role": "user", "content": COUNT.repeat(20) }], "max_tokens": 1 });
    for _ in 0..2 {
        assert_eq!(server.http().post(CHAT, &body).await.status, 200);
    }
    let cache = &status(&server).await["models"][0]["prefix_cache"];
    assert!(cache["hits_total"].as_u64() > Some(0), "{cache}");
    assert!(cache["hit_tokens_total"].as_u64() > Some(0), "{cache}");
}

#[tokio::test]
async fn refusals_are_listed_without_text_of_the_client() {
    let server = Server::start([""; 0]).await;
    let host = "host: localhost";
    let page = "origin: http://evil.example";
    for _ in 0..3 {
        assert_eq!(
            asks(&server, "GET /v1/models", &[host, page], "").status,
            403
        );
    }
    let unknown =
        json!({ "model": "<b>\u{202e}", "messages": [{ "role": "user", "content": "x" }] });
    assert_eq!(server.http().post(CHAT, &unknown).await.status, 404);
    assert_eq!(server.http().get("/<script>").await.status, 404);
    let answer = server.http().get("/status").await;
    assert!(
        !answer.text.contains("<script>") && !answer.text.contains("evil"),
        "{}",
        answer.text
    );
    let refusals = answer.json()["refusals"].clone();
    let seen: Vec<Value> = refusals
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            json!([
                one["method"],
                one["route"],
                one["status"],
                one["code"],
                one["count"],
                one["client"],
                one["address"]
            ])
        })
        .collect();
    let here = "127.0.0.1";
    assert_eq!(
        seen,
        [
            json!(["GET", "none", 404, "unknown_url", 1, "loopback", here]),
            json!(["POST", CHAT, 404, "model_not_found", 1, "loopback", here]),
            json!(["GET", "/v1/models", 403, "origin", 3, "loopback", here]),
        ]
    );
    assert!(
        refusals[0]["time"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );
}

#[tokio::test]
async fn front_serves_the_console_and_shows_its_upstreams() {
    let upstream = Server::start([""; 0]).await;
    let address = upstream.http().base();
    let front = Server::start(["--upstream", &format!("{}={address}", Server::BUILT_IN)]).await;
    assert_eq!(front.http().get("/").await.status, 200);
    let shown = status(&front).await;
    assert_eq!(shown["models"], json!([]));
    let one = &shown["fronts"][0];
    assert_eq!(
        (&one["id"], &one["available"]),
        (&json!(Server::BUILT_IN), &json!(true))
    );
    assert_eq!(one["upstreams"][0]["circuit"], "closed");
    let body = json!({ "messages": [{ "role": "user", "content": SUM }] });
    assert_eq!(front.http().post(CHAT, &body).await.status, 200);
    upstream.signal(Signal::KILL);
    let upstream = |status: &Value| status["fronts"][0]["upstreams"][0].clone();
    let gone = |status: &Value| upstream(status)["circuit"] == "open";
    let shown = status_shows(&front, "a gone upstream", gone).await;
    assert!(upstream(&shown)["problem"].is_string(), "{shown}");
}

#[tokio::test]
async fn ready_line_names_the_consoles_url() {
    let server = Process::launch(["--port", "0"]);
    let ready = server.logged("ready").await;
    let address = ready["address"].as_str().unwrap();
    assert_eq!(ready["console"], format!("{address}/"));
}
