//! Starting the server, and failing to start.

use std::collections::BTreeSet;
use std::fs;

use sanctum_tests::{Ended, Process, Server, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::openai::SUM;

/// Starts a process that is expected to exit.
async fn run(args: &[&str]) -> Ended {
    Process::launch(args).ended().await
}

#[tokio::test]
async fn port_in_use_is_named_with_the_fix() {
    let first = Server::start([""; 0]).await;
    let address = first.http().base().strip_prefix("http://").unwrap();
    let (_, port) = address.rsplit_once(':').unwrap();
    let ended = run(&["--port", port]).await;
    assert_eq!(ended.code, Some(1));
    let words = ended.last_message();
    assert!(
        words.contains(address) && words.contains("--port"),
        "{words}"
    );
}

#[tokio::test]
async fn address_that_other_machines_can_reach_needs_a_token() {
    for host in ["0.0.0.0", "::", "192.0.2.1"] {
        let ended = run(&["--host", host, "--port", "0"]).await;
        assert_eq!(ended.code, Some(1));
        let words = ended.last_message();
        assert!(
            words.contains(host) && words.contains("--auth-token-file"),
            "{words}"
        );
    }
}

#[tokio::test]
async fn every_address_is_logged() {
    let server = Server::start(["--host", "127.0.0.1", "--host", "localhost"]).await;
    server.signal(Signal::TERM);
    let log = server.ended().await.log;
    let address = |line: &String| {
        let fields: Value = serde_json::from_str(line).unwrap();
        (fields["message"] == "ready").then(|| fields["address"].to_string())
    };
    let addresses: BTreeSet<String> = log.iter().filter_map(address).collect();
    assert_eq!(addresses.len(), 2, "{log:#?}");
}

#[tokio::test]
async fn fleet_toml_decides_what_is_served() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model");
    assert_eq!(
        run(&["export-model", model.to_str().unwrap()]).await.code,
        Some(0)
    );
    let fleet = folder.path().join("fleet.toml");
    let text = format!(
        "[hosts.here]\naddress = \"127.0.0.1\"\n[servers.server]\nhost = \"here\"\nlisten = [\"127.0.0.1:0\"]\n\
         models = [{{ id = \"council\", path = {model:?} }}]\nlimits = {{ max_slots = 2, max_context = 512 }}\n"
    );
    fs::write(&fleet, &text).unwrap();
    let server = Server::ready(Process::launch(["--config".as_ref(), fleet.as_os_str()])).await;
    let card = server.http().get("/v1/models").await.json()["data"][0].clone();
    assert_eq!(
        (&card["id"], &card["max_model_len"]),
        (&json!("council"), &json!(512))
    );
    let body = json!({ "model": "council", "messages": [{ "role": "user", "content": SUM }], "temperature": 0 });
    let answer = server
        .http()
        .post("/v1/chat/completions", &body)
        .await
        .json();
    assert_eq!(answer["choices"][0]["message"]["content"], "4");
    assert_eq!(
        server
            .metrics()
            .await
            .sum("sanctum_slots", &[("model", "council")]),
        2.0
    );

    fs::write(&fleet, text.replace("limits =", "limit =")).unwrap();
    let ended = Process::launch(["--config".as_ref(), fleet.as_os_str()])
        .ended()
        .await;
    assert_eq!(ended.code, Some(1));
    let words = ended.last_message();
    assert!(
        words.contains("fleet.toml, line 7") && words.contains("`limits`"),
        "{words}"
    );
}

#[tokio::test]
async fn wrong_command_line_is_an_error_with_the_usage() {
    let ended = run(&["--prot", "1"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.join("\n").contains("--port"), "{:#?}", ended.log);
    let help = run(&["--help"]).await;
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("--model") && help.stdout.contains("Exit codes"));
}

#[tokio::test]
async fn loading_server_can_be_stopped() {
    let process = Process::launch(["--port", "0", "--shape", "qwen3.5-0.8b"]);
    process.logged("loading").await;
    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

/// An upgrade's trial depends on it: if the command is killed, the second copy of the model must end.
#[test]
fn server_with_exit_with_stdin_ends_when_its_standard_input_is_closed() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let mut server = Command::new(sanctum_tests::program("sanctum-server"))
        .args(["--host", "127.0.0.1", "--port", "0", "--threads", "1"])
        .env("SANCTUM_EXIT_WITH_STDIN", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It serves while the pipe is open.
    let mut log = std::io::BufReader::new(server.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("ready")));
    assert_eq!(server.try_wait().unwrap(), None);
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}

#[tokio::test]
async fn wired_limit_is_warned_about_once_and_only_when_it_is_set() {
    for (args, warnings) in [
        (&["--metal-wired-limit-mb", "2048"][..], 1),
        (
            &[
                "--metal-cache-limit-mb",
                "64",
                "--metal-memory-limit-mb",
                "4096",
            ],
            0,
        ),
    ] {
        let server = Server::start(args).await;
        server.signal(Signal::TERM);
        let log = server.ended().await.log;
        let about = |line: &&String| line.contains("kernel panics");
        assert_eq!(log.iter().filter(about).count(), warnings, "{log:#?}");
    }
}
