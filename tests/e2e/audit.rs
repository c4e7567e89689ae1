//! The audit log: who requested what, without the content.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sanctum_tests::{Server, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::auth::{TOKEN, bearer, secret};
use crate::openai::SUM;

const CHAT: &str = "/v1/chat/completions";

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    text.lines().map(parse).collect()
}

#[tokio::test]
async fn every_request_has_a_line_without_its_text() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("logs/audit.jsonl");
    let (_secrets, token) = secret();
    let args = [
        "--audit-log".as_ref(),
        file.as_os_str(),
        "--auth-token-file".as_ref(),
        token.as_os_str(),
    ];
    let server = Server::start(args).await;
    let http = server.http();
    let question = json!({ "messages": [{ "role": "user", "content": SUM }], "temperature": 0 });
    let answer = http.post(CHAT, &question).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    http.post(CHAT, &json!({ "messages": SUM })).await;
    http.get("/v1/models").await;
    http.get("/health").await;
    http.get("/metrics").await;
    http.post_text("/v1/nothing", "text/plain", SUM).await;
    let at = http.base().strip_prefix("http://").unwrap();
    let foreign = [
        "host: evil.example",
        "authorization: Bearer wrong-wrong-wrong-wrong-wrong-wrong-wrong",
    ];
    let stream = std::net::TcpStream::connect(at).unwrap();
    sanctum_tests::Raw::ask(stream, "GET /health?secret=1", &foreign, "");
    server.stream_of(5).await.rest().await;
    let mut left = server.stream_of(2000).await;
    left.next().await.unwrap();
    drop(left);
    server
        .health_shows("rest", |health| health["in_flight"] == 0)
        .await;
    server.signal(Signal::TERM);
    let log = server.ended().await.log.join("\n");

    let lines = lines(&file);
    let brief: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {}",
                text("who"),
                text("route"),
                line["status"],
                text("outcome")
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            "loopback /v1/chat/completions 200 finished",
            "loopback /v1/chat/completions 400 refused",
            "loopback none 415 refused",
            "loopback /health 403 refused",
            "loopback /v1/completions 200 finished",
            "loopback /v1/completions 200 client_gone",
        ]
    );
    let first = &lines[0];
    assert_eq!(first["request"], id.as_str());
    assert_eq!(first["model"], Server::BUILT_IN);
    assert_eq!(first["finish_reason"], "stop");
    let usage = &answer.json()["usage"];
    assert_eq!(first["prompt_tokens"], usage["prompt_tokens"]);
    assert_eq!(first["completion_tokens"], usage["completion_tokens"]);
    assert_eq!(lines[3]["reason"], "foreign_host");
    assert_eq!(lines[4]["completion_tokens"], 5);
    assert!(lines[5]["completion_tokens"].as_u64().unwrap() >= 1);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let all = fs::read_to_string(&file).unwrap() + &log;
    for secret in [SUM, TOKEN, "wrong-wrong", "secret=1"] {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }
}

#[tokio::test]
async fn request_cancelled_by_the_drain_limit_has_a_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    let flag = [
        "--drain-seconds",
        "0",
        "--audit-log",
        file.to_str().unwrap(),
    ];
    let server = Server::start(flag).await;
    let mut stream = server.stream_of(2000).await;
    stream.next().await.unwrap();
    server.signal(Signal::TERM);
    stream.rest().await;
    assert_eq!(server.ended().await.code, Some(0));
    let lines = lines(&file);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["outcome"], "cancelled");
}

#[tokio::test]
async fn server_of_a_fleet_has_an_audit_log_by_default() {
    let folder = TempDir::new().unwrap();
    let (_secrets, token) = secret();
    let fleet = folder.path().join("fleet.toml");
    let text = format!(
        "[fleet]\nhome = \"home\"\n[hosts.here]\naddress = \"127.0.0.1\"\n[servers.tiny]\nhost = \"here\"\n\
         listen = [\"127.0.0.1:0\"]\nauth = {{ token_file = {token:?}, loopback = \"required\" }}\n"
    );
    fs::write(&fleet, text).unwrap();
    let args = ["--config".as_ref(), fleet.as_os_str()];
    let server = Server::ready(sanctum_tests::Process::launch(args)).await;
    let at = server
        .http()
        .base()
        .strip_prefix("http://")
        .unwrap()
        .to_owned();
    let ask = |headers: &[&str]| {
        let stream = std::net::TcpStream::connect(&at).unwrap();
        sanctum_tests::Raw::ask(stream, "GET /health", headers, "").status
    };
    assert_eq!(ask(&["host: localhost"]), 401);
    assert_eq!(ask(&["host: localhost", &bearer(TOKEN)]), 200);
    server.signal(Signal::TERM);
    server.ended().await;
    let lines = lines(&folder.path().join("home/logs/tiny.audit.jsonl"));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["reason"], "token_missing");
    assert_eq!(lines[0]["auth"], "none");
}
