//! Prefixes on disk: a server that is started again continues conversations, and `sanctum-server cache` lists and clears them.

use std::path::Path;

use sanctum_tests::{Ended, Process, Server, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;

const CHAT: &str = "/v1/chat/completions";

/// A chat of so many questions.
fn chat(questions: usize) -> Value {
    let system = format!(
        "You answer briefly. {}",
        "A lamp is not a candle. ".repeat(8)
    );
    let mut messages = vec![json!({ "role": "system", "content": system })];
    for number in 1..=questions {
        let question = format!("What is {number}+2? Count the lamps too.");
        messages.push(json!({ "role": "user", "content": question }));
        if number < questions {
            messages.push(json!({ "role": "assistant", "content": "A number of lamps." }));
        }
    }
    json!({ "messages": messages, "temperature": 0, "max_tokens": 8 })
}

async fn ask(server: &Server, questions: usize) -> Value {
    let answer = server.http().post(CHAT, &chat(questions)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn cached(answer: &Value) -> u64 {
    let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
    cached.as_u64().unwrap_or_else(|| panic!("{answer}"))
}

async fn cache(command: &str, folder: &Path, args: &[&str]) -> Ended {
    let folder = folder.to_str().unwrap();
    let words = [&["cache", command, folder], args].concat();
    Process::launch(words).ended().await
}

async fn listed(folder: &Path) -> Value {
    let ended = cache("list", folder, &["--json"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

#[tokio::test]
async fn restarted_server_continues_conversations_and_its_folder_can_be_cleared() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("cache");
    let path = folder.to_str().unwrap();
    let start = async || Server::start(["--threads", "1", "--cache-dir", path]).await;
    let server = start().await;
    let (expected, next) = (ask(&server, 2).await, ask(&server, 3).await);

    let listing = listed(&folder).await;
    assert_eq!(listing["process"], server.id());
    let refused = cache("clear", &folder, &[]).await;
    let reason = refused.log.join("\n");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        reason.contains(&format!("process {}", server.id())),
        "{reason}"
    );

    // A server that is stopped writes what it has not yet written.
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code, Some(0));
    let listing = listed(&folder).await;
    assert!(
        listing["process"].is_null() && listing["bytes"].as_u64() > Some(0),
        "{listing}"
    );
    assert_eq!(listing["unusable"], 0);

    let server = start().await;
    let again = ask(&server, 2).await;
    assert_eq!(
        again["choices"][0]["message"],
        expected["choices"][0]["message"]
    );
    assert!(cached(&again) > 0, "{again}");
    let again = ask(&server, 3).await;
    assert_eq!(
        again["choices"][0]["message"],
        next["choices"][0]["message"]
    );
    let metrics = server.metrics().await;
    assert!(metrics.sum("sanctum_prefix_cache_restores_total", &[]) >= 1.0);
    assert!(metrics.sum("sanctum_prefix_cache_bytes", &[("tier", "disk")]) > 0.0);

    server.signal(Signal::KILL);
    assert_eq!(server.ended().await.code, None);
    assert_eq!(listed(&folder).await["unusable"], 0);
    let server = start().await;
    let again = ask(&server, 2).await;
    assert_eq!(
        again["choices"][0]["message"],
        expected["choices"][0]["message"]
    );
    assert!(cached(&again) > 0, "{again}");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code, Some(0));

    let text = cache("list", &folder, &[]).await.stdout;
    assert!(text.contains("no server uses it"), "{text}");
    let cleared = cache("clear", &folder, &[]).await;
    assert_eq!(cleared.code, Some(0), "{cleared:?}");
    assert!(cleared.stdout.starts_with("removed "), "{cleared:?}");
    assert_eq!(listed(&folder).await["prefixes"], json!([]));
}

#[tokio::test]
async fn server_whose_folder_another_one_uses_reports_that_and_serves() {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("cache");
    let path = folder.to_str().unwrap();
    let start = async || Server::start(["--threads", "1", "--cache-dir", path]).await;
    let (first, second) = (start().await, start().await);
    let reported = async |server: &Server| {
        let health = server.http().get("/health").await.json();
        let paused = server.metrics().await;
        let paused = paused.sum("sanctum_prefix_cache_disk_paused", &[]);
        (health["prefix_cache"].clone(), paused)
    };
    assert_eq!(reported(&first).await, (json!({ "status": "on" }), 0.0));
    let (cache, paused) = reported(&second).await;
    let problem = cache["disk_problem"].as_str().unwrap();
    assert!(
        problem.contains(&format!("process {}", first.id())),
        "{problem}"
    );
    assert!(!problem.contains(path), "{problem}");
    assert_eq!((&cache["status"], paused), (&json!("on"), 1.0));
    let status = second.http().get("/status").await.json();
    let problem = &status["models"][0]["prefix_cache"]["disk_problem"];
    assert!(problem.as_str().unwrap().contains(path), "{problem}");
    ask(&second, 1).await;
}
