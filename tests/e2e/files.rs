//! FIFOs and other non-files in place of files: at start, and while the server runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sanctum_tests::{Fleet, Process, Server, Signal, within};

/// The files that a server of the fleet reads, below the fleet's home.
const READ: [&str; 5] = [
    "certs/server.crt",
    "certs/server.key",
    "certs/ca.crt",
    "certs/ca.crl",
    "secrets/server.token",
];

fn fleet() -> Fleet {
    Fleet::set_up("tls_listen = [\"127.0.0.1:0\"]")
}

/// Puts a FIFO in place of a file: opening it would block until another process opens it too.
fn block(path: &Path) -> Vec<u8> {
    let whole = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
    whole
}

/// As `sanctum-pki` does.
fn restore(path: &Path, whole: &[u8]) {
    let beside = path.with_extension("beside");
    fs::write(&beside, whole).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn server_names_a_fifo_at_start_at_once() {
    let fleet = fleet();
    let audit = "logs/server.audit.jsonl";
    fs::create_dir_all(fleet.path("home/logs")).unwrap();
    fs::write(fleet.path("home").join(audit), "").unwrap();
    for file in READ.into_iter().chain([audit]) {
        let path = fleet.path("home").join(file);
        let whole = block(&path);
        let begun = Instant::now();
        let ended = Process::launch(fleet.args()).ended().await;
        let words = ended.last_message();
        assert_eq!(ended.code, Some(1), "{file}: {words}");
        assert!(words.contains(file) && words.contains("a FIFO"), "{words}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{file}");
        restore(&path, &whole);
    }
    Server::ready(Process::launch(fleet.args())).await;
}

#[tokio::test]
async fn fifos_while_serving_change_nothing_and_sigterm_is_obeyed() {
    let fleet = fleet();
    let server = fleet.serve().await;
    for file in READ {
        let path = fleet.path("home").join(file);
        let whole = block(&path);
        let refused = |fields: &serde_json::Value| {
            let message = fields["message"].as_str()?;
            (message.contains(file) && message.contains("a FIFO")).then_some(())
        };
        server.logs("the refusal of a FIFO", refused).await;
        within("an answer", server.http().get("/v1/models")).await;
        restore(&path, &whole);
    }
    for file in READ {
        block(&fleet.path("home").join(file));
    }
    server.signal(Signal::TERM);
    let ended = server.ended().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
}

#[tokio::test]
async fn server_writes_its_own_log_file() {
    let fleet = fleet();
    let log = fleet.path("home/logs/server.log");
    let mut args = fleet.args().to_vec();
    args.extend(["--log-file".into(), log.clone()]);
    let process = Process::launch(&args);
    let ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains("\"ready\""));
    within("its log", async {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&log), mode(log.parent().unwrap())), (0o600, 0o700));
    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert_eq!((ended.code, &ended.log[..]), (Some(0), &[][..]));
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.lines().last().unwrap().contains("\"stopped\""),
        "{text}"
    );
}

#[tokio::test]
async fn server_whose_log_cannot_be_opened_logs_to_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("server.log");
    fs::write(&log, "").unwrap();
    block(&log);
    let args = ["--port", "0", "--log-file", log.to_str().unwrap()];
    let server = Server::ready(Process::launch(args)).await;
    let said = &server.log()[0];
    assert!(
        said.contains("server.log") && said.contains("a FIFO"),
        "{said}"
    );
}

#[tokio::test]
async fn caffeinate_runs_with_a_request_and_never_outlives_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("caffeinate");
    let called = folder.path().join("called");
    // Held open by the fake while it runs.
    let held = folder.path().join("held");
    fs::write(&held, "").unwrap();
    block(&held);
    let script = format!(
        "#!/bin/sh\necho \"$*\" > {0}.new && mv {0}.new {0}\nexec 3> {1}\nexec sleep 600\n",
        called.display(),
        held.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let set = [("SANCTUM_CAFFEINATE", program.to_str().unwrap())];
    let server = Server::ready(Process::launch_with(["--port", "0"], &set)).await;
    server.http().get("/health").await;
    assert!(!called.exists(), "a probe is no request");
    let stream = server.stream_of(2000).await;
    within("caffeinate", async {
        while !called.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let arguments = fs::read_to_string(&called).unwrap();
    assert_eq!(arguments.trim(), format!("-i -w {}", server.id()));
    let ended = tokio::task::spawn_blocking(move || fs::read(held));
    drop(stream);
    server.signal(Signal::TERM);
    server.ended().await;
    within("the end of caffeinate", ended)
        .await
        .unwrap()
        .unwrap();
}
