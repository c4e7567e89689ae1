//! Clients that request more than their share, and the effect on others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sanctum_tests::{Hostile, Process, Server, Signal};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn one_token() -> Value {
    json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 1 })
}

/// How long a request of one token takes.
async fn ask(server: &Server) -> Duration {
    let began = Instant::now();
    let answer = server.http().afresh().post(CHAT, &one_token()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_request_is_answered_beside_twelve_bodies_of_two_megabytes() {
    let server = Server::start([""; 0]).await;
    let alone = ask(&server).await;
    let hostile = Hostile::beside(&server);
    let health = server
        .health_shows("bodies in preparation", |health| {
            health["preparing"]["requests"].as_u64() > Some(1)
        })
        .await;
    let preparing = &health["preparing"];
    assert!(
        preparing["oldest_seconds"].is_number() && preparing["progress"].is_u64(),
        "{health}"
    );
    // Without fair queueing it took as long as all twelve together.
    let limit = (20 * alone).max(Duration::from_secs(5));
    for _ in 0..3 {
        let beside = ask(&server).await;
        assert!(
            beside < limit,
            "{beside:?} beside a hostile client, {alone:?} alone"
        );
    }
    let answered = hostile.answered();
    server
        .health_shows("more bodies to be answered", |_| {
            hostile.answered() > answered
        })
        .await;
    hostile.leave().await;
    server
        .health_shows("no preparation", |health| {
            health["preparing"]["requests"] == 0
        })
        .await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_beside_twelve_bodies_of_two_megabytes() {
    let server = Server::start([""; 0]).await;
    ask(&server).await;
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.unwrap().trim_end_matches("kB").trim();
        kb.parse::<u64>().unwrap() >> 10
    };
    let before = peak();
    let hostile = Hostile::beside(&server);
    server
        .health_shows("two dozen bodies to be answered", |_| {
            hostile.answered() >= 24
        })
        .await;
    let grown = peak() - before;
    hostile.leave().await;
    // It was 4.6 GB before the limits.
    assert!(grown < 400, "{grown} MB more");
}

/// Sends the head of a request, and returns the response to it without a body.
fn answer_to_head(server: &Server, extra: &str) -> String {
    let address = server.http().base().trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(sanctum_tests::patience()))
        .unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{extra}\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.windows(2).any(|two| two == b"}}") {
        match socket.read(&mut buffer).unwrap() {
            0 => break,
            read => answer.extend_from_slice(&buffer[..read]),
        }
        if answer.starts_with(b"HTTP/1.1 100") {
            break;
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_body_beyond_the_limit_is_refused_before_it_is_sent() {
    let server = Server::start([""; 0]).await;
    let beyond = format!("content-length: {}\r\n", (16 << 20) + 1);
    for extra in [beyond.clone(), format!("expect: 100-continue\r\n{beyond}")] {
        let answer = answer_to_head(&server, &extra);
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(
            answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
        assert!(answer.contains("body_too_large"), "{answer}");
    }
    let within = "expect: 100-continue\r\ncontent-length: 10\r\n";
    let answer = answer_to_head(&server, within);
    assert!(answer.starts_with("HTTP/1.1 100"), "{answer}");
}

#[tokio::test]
async fn arrays_beyond_their_limit_are_refused_by_name() {
    let server = Server::start([""; 0]).await;
    let mut body = one_token();
    body["stop"] = vec!["a"; 17].into();
    let answer = server.http().post(CHAT, &body).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text.contains("`stop` has more than 16 elements"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn user_signal_is_ignored_and_hangup_reads_files_again() {
    let server = Server::start([""; 0]).await;
    server.signal(Signal::USR1);
    server.signal(Signal::HUP);
    server
        .logged("SIGHUP: token and TLS files were read again; fleet.toml and flags need a restart")
        .await;
    ask(&server).await;
}

#[tokio::test]
async fn template_of_200_000_terms_is_an_error_by_name() {
    let folder = tempfile::TempDir::new().unwrap();
    sanctum_engine::load::embedded::export(folder.path()).unwrap();
    let terms = format!("{{{{ 1{} }}}}", "+1".repeat(200_000));
    std::fs::write(folder.path().join("chat_template.jinja"), terms).unwrap();
    let model = folder.path().display().to_string();
    let server = Process::launch(["--port", "0", "--model", &model]);
    let ended = server.ended().await;
    let words = ended.last_message();
    assert_eq!(ended.code, Some(1), "{words}");
    assert!(
        words.contains("the chat template has an expression of more than 4096 tokens in line 1"),
        "{words}"
    );
}
