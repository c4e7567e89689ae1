//! Keys, tokens and prompts must not appear in logs at the most verbose level, nor in a core file after a crash.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use sanctum_tests::{Fleet, Process, Raw, Server, Signal};
use serde_json::json;

use crate::auth::{OTHER, bearer, write};

/// Lines of a file that are long enough to be unmistakable.
fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let whole = text.lines().filter(|line| !line.starts_with("-----"));
    whole
        .filter(|line| line.len() >= 20)
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn logs_contain_no_key_token_or_prompt() {
    let fleet = Fleet::set_up("tls_listen = [\"127.0.0.1:0\"]");
    fleet.pki("manifest keygen");
    let mut secrets: Vec<String> = [
        "certs/ca.key",
        "certs/server.key",
        "certs/clients/canary.key",
        "secrets/server.token",
        "secrets/manifest.key",
    ]
    .iter()
    .flat_map(|name| lines(&fleet.path("home").join(name)))
    .collect();
    assert!(secrets.len() >= 8, "{}", secrets.len());
    let (prompt, wrong) = ("an unmistakable prompt", "w".repeat(40));
    secrets.extend([prompt.to_owned(), wrong.clone(), OTHER.to_owned()]);

    let mut args: Vec<_> = fleet.args().map(Into::into).into();
    args.extend([std::ffi::OsString::from("--log"), "debug".into()]);
    let server = Server::ready(Process::launch(args)).await;
    let question = json!({ "messages": [{ "role": "user", "content": prompt }], "max_tokens": 3 });
    let chat = "/v1/chat/completions";
    assert_eq!(server.http().post(chat, &question).await.status, 200);
    let broken = json!({ "messages": prompt });
    assert_eq!(server.http().post(chat, &broken).await.status, 400);
    let plain = server.http().base().strip_prefix("http://").unwrap();
    for (token, status) in [(fleet.token(), 200), (wrong, 403)] {
        let stream = TcpStream::connect(plain).unwrap();
        let headers = ["host: elsewhere.example", &bearer(&token)];
        let answer = Raw::ask(stream, "GET /v1/models", &headers, "");
        assert_eq!(answer.status, status);
    }
    // Replacing files with unusable ones logs the most.
    let token = fleet.path("home/secrets/server.token");
    write(&token, &format!("{OTHER} {OTHER}"));
    let bad = |fields: &serde_json::Value| {
        let message = fields["message"].as_str()?;
        message
            .contains("the earlier token stays valid")
            .then_some(())
    };
    server.logs("the bad token", bad).await;
    fs::copy(fleet.pair("clients/canary").1, fleet.pair("server").1).unwrap();
    let bad = |fields: &serde_json::Value| {
        let message = fields["message"].as_str()?;
        message
            .contains("does not belong to the certificate")
            .then_some(())
    };
    server.logs("the wrong key", bad).await;
    server.signal(Signal::TERM);
    let log = server.ended().await.log.join("\n");
    let audit = fs::read_to_string(fleet.path("home/logs/server.audit.jsonl")).unwrap();

    assert!(log.contains("\"DEBUG\""), "{log}");
    assert!(audit.lines().count() >= 3, "{audit}");
    for (name, text) in [("the log", log), ("the audit log", audit)] {
        assert!(!text.contains("PRIVATE KEY"), "{name}: {text}");
        for secret in &secrets {
            assert!(
                !text.contains(secret.as_str()),
                "{secret} is in {name}: {text}"
            );
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn crash_leaves_no_core_file() {
    let server = Server::start([""; 0]).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words, ["Max", "core", "file", "size", "0", "0", "bytes"]);
}
