//! The real canary: with a hostile server whose answer controls terminals, with FIFOs and folders in place of its files,
//! while its channel is down, on the wrong host, and while a standby serves.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sanctum_config::Digest;
use sanctum_host::Receipt;
use serde_json::Value;

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

/// Sets a terminal's title and clipboard, colours it, turns text around, and has markup.
const ANSWER: &str =
    r"5\u001b]0;owned\u0007\u001b]52;c;AAAA\u001b\\\u009b31m\u202efdp.exe\u2066 <b>&</b>\nnext: rm";

/// An HTTP server that answers `body` to everything, and sends each request to the receiver.
fn serve(body: String) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sent, got) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut part = [0; 4096];
            // A request's head, and the body that its length announces.
            while let Ok(count @ 1..) = stream.read(&mut part) {
                request.extend_from_slice(&part[..count]);
                let text = String::from_utf8_lossy(&request).to_lowercase();
                let Some((head, rest)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.split("content-length: ").nth(1);
                let length = length.and_then(|text| text.lines().next()?.parse().ok());
                if rest.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}", body.len());
            let _ = write!(stream, "{head}\r\nconnection: close\r\n\r\n{body}");
            let _ = sent.send(String::from_utf8_lossy(&request).into_owned());
        }
    });
    (address, got)
}

struct CanaryFixture {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl CanaryFixture {
    /// The canary of a server at this address, with more lines in its own section and after it.
    fn new(server: SocketAddr, own: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("fleet.toml");
        let text = format!(
            "[fleet]\nhome = \"{}\"\n[hosts.here]\naddress = \"127.0.0.1\"\nagents = [\"canary\"]\n\
             [servers.server]\nhost = \"here\"\nlisten = [\"{server}\"]\n\
             auth = {{ token_file = \"token\", loopback = \"required\" }}\n\
             [watch.canary]\ntarget = \"server\"\nevery = \"1h\"\n{own}\n{more}\n",
            folder.path().display()
        );
        fs::write(&config, text).unwrap();
        let canary = Self { folder, config };
        let token = canary.path("token");
        fs::write(&token, "secret").unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&token, private).unwrap();
        canary
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sanctum-canary"));
        command.arg("--config").arg(&self.config).args(arguments);
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Starts the loop, which logs to a file.
    fn start(&self, format: &str) -> Child {
        let log = fs::File::create(self.log_file()).unwrap();
        let mut command = self.command(&["--log-format", format]);
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.path("canary.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

fn terminate(child: &mut Child) {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    // It may have exited already.
    let _ = kill_process(pid, Signal::TERM);
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(5) {
            child.kill().unwrap();
            panic!("SIGTERM was not obeyed");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    let hidden = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2066}".contains(c));
    assert!(!text.contains(hidden), "{what}: {text:?}");
}

#[test]
fn hostile_answer_is_escaped_on_terminal_log_alert_and_in_state() {
    let answer = format!(r#"{{"choices":[{{"message":{{"content":"{ANSWER}"}}}}]}}"#);
    let (server, _) = serve(answer);
    let (phone, alerts) = serve(String::new());
    let channel = format!("[alerts.phone]\nurl = \"http://{phone}/notify\"");
    let canary = CanaryFixture::new(server, "misses = 1\nalert = [\"phone\"]", &channel);

    let once = canary.command(&["--once"]).output().unwrap();
    let text = String::from_utf8(once.stdout).unwrap();
    assert!(
        text.contains(r"5\u{1b}]0;owned\u{7}\u{1b}]52;c;AAAA"),
        "{text}"
    );
    assert_harmless("--once", &text);
    assert_eq!(
        text.matches("\nnext: ").count(),
        1,
        "the answer cannot add one: {text}"
    );
    assert_harmless("log", &String::from_utf8(once.stderr).unwrap());
    let once = canary.command(&["--once", "--json"]).output().unwrap();
    let text = String::from_utf8(once.stdout).unwrap();
    assert_harmless("--once --json", &text);
    let page: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(page["kind"], "miss");

    for format in ["text", "json"] {
        let mut running = canary.start(format);
        let request = alerts.recv_timeout(SOON).unwrap();
        terminate(&mut running);
        let (_, json) = request.split_once("\r\n\r\n").unwrap();
        let alert: Value = serde_json::from_str(json).unwrap();
        let body = alert["body"].as_str().unwrap();
        assert_harmless("alert", body);
        assert!(body.contains(r"\u{202e}fdp.exe\u{2066} <b>&</b>"), "{body}");
        assert_harmless(format, &canary.log());
        let state = fs::read_to_string(canary.path("state/watch/canary.json")).unwrap();
        assert_harmless("state", &state);
        // The next loop raises it again.
        fs::remove_dir_all(canary.path("state")).unwrap();
    }
}

fn fifo(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn fifo_or_folder_in_place_of_a_file_is_named_at_once_and_sigterm_is_obeyed() {
    let places = [
        "state/watch/canary.json",
        "state/watch/canary.lock",
        "state/lease.json",
        "state/spool/canary/0000000001-canary-x.json",
        "token",
    ];
    let (phone, _alerts) = serve(String::new());
    let channel = format!("[alerts.phone]\nurl = \"http://{phone}/notify\"");
    for place in places {
        for kind in ["a FIFO", "a folder"] {
            let (server, _) = serve(r#"{"choices":[{"message":{"content":"4"}}]}"#.to_owned());
            let canary = CanaryFixture::new(server, "alert = [\"phone\"]", &channel);
            let path = canary.path(place);
            match kind {
                "a FIFO" => fifo(&path),
                _ => {
                    let _ = fs::remove_file(&path);
                    fs::create_dir_all(&path).unwrap();
                }
            }
            let begun = Instant::now();
            let mut running = canary.start("text");
            let named = |log: &str| log.contains(place) && log.contains(kind);
            while !named(&canary.log()) {
                let log = canary.log();
                assert!(begun.elapsed() < SOON, "{place} is {kind}: {log}");
                std::thread::sleep(Duration::from_millis(5));
            }
            terminate(&mut running);
        }
    }
}

#[test]
fn once_lists_alerts_that_no_channel_accepted() {
    let (server, _) = serve(r#"{"choices":[{"message":{"content":"5"}}]}"#.to_owned());
    // Nothing listens there after this.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let phone = closed.local_addr().unwrap();
    drop(closed);
    let channel = format!("[alerts.phone]\nurl = \"http://{phone}/notify\"");
    let canary = CanaryFixture::new(server, "misses = 1\nalert = [\"phone\"]", &channel);
    let mut running = canary.start("text");
    let begun = Instant::now();
    while !canary.log().contains("cannot deliver to the channel phone") {
        assert!(begun.elapsed() < SOON, "{}", canary.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    terminate(&mut running);
    let once = canary.command(&["--once"]).output().unwrap();
    let text = String::from_utf8(once.stdout).unwrap();
    let line = text.lines().last().unwrap();
    assert!(
        line.starts_with("undelivered: \"server on here fails its check\", raised "),
        "{text}"
    );
    assert!(line.contains("has not reached the channel phone: http://127.0.0.1:"));
    let once = canary.command(&["--once", "--json"]).output().unwrap();
    let page: Value = serde_json::from_slice(&once.stdout).unwrap();
    assert_eq!(page["undelivered"][0]["channel"], "phone");
    let state = fs::read(canary.path("state/watch/canary.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["open"]["misses"]["notified"], Value::Null);
}

#[test]
fn once_on_another_host_is_an_error_that_names_both() {
    let (server, _) = serve(String::new());
    let laptop = "[hosts.laptop]\naddress = \"127.0.0.2\"\nagents = [\"canary-offbox\"]\n\
                  [watch.canary-offbox]\ncheck = \"canary\"\ntarget = \"server\"\nevery = \"1h\"";
    let canary = CanaryFixture::new(server, "", laptop);
    let receipt = Receipt {
        host: "laptop".parse().unwrap(),
        release: "1".to_owned(),
        previous: None,
        installed: "2026-04-18T03:00:00Z".to_owned(),
        fleet_sha256: Digest::of(b""),
        agents: Vec::new(),
        artefacts: Vec::new(),
    };
    fs::create_dir_all(canary.path("state")).unwrap();
    receipt.write(&canary.path("state/receipt.json")).unwrap();
    let once = canary.command(&["--once"]).output().unwrap();
    assert_eq!(once.status.code(), Some(2));
    let error = String::from_utf8(once.stderr).unwrap();
    assert!(
        error.contains("[watch.canary] runs on the host here, and this is laptop"),
        "{error}"
    );
    assert!(error.contains("run --name canary-offbox here"), "{error}");
    assert!(once.stdout.is_empty());
}

/// A canary on another host, with a certificate of its own, while the standby serves.
#[test]
fn standby_answers_in_place_of_a_server_whose_tls_address_refuses_connections() {
    let body = r#"{"data":[{"id":"m"}],"choices":[{"message":{"content":"4"}}]}"#;
    let (standby, requests) = serve(body.to_owned());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let tls = closed.local_addr().unwrap().port();
    drop(closed);
    let folder = tempfile::tempdir().unwrap();
    let path = |relative: &str| folder.path().join(relative);
    let text = format!(
        "[fleet]\nhome = \"{0}\"\n[hosts.mini]\naddress = \"127.0.0.1\"\n\
         [hosts.laptop]\naddress = \"127.0.0.2\"\nagents = [\"canary\"]\n\
         [servers.server]\nhost = \"mini\"\nlisten = [\"0.0.0.0:{1}\"]\ntls_listen = [\"0.0.0.0:{tls}\"]\n\
         auth = {{ token_file = \"token\" }}\n\
         [agents.escape-hatch]\nhost = \"mini\"\nprogram = [\"/bin/x\"]\nstandby_for = \"server\"\n\
         [watch.canary]\ntarget = \"server\"\nevery = \"1h\"\n",
        folder.path().display(),
        standby.port()
    );
    fs::write(path("fleet.toml"), &text).unwrap();
    fs::create_dir_all(path("certs/clients")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .unwrap();
    for name in ["certs/ca.crt", "certs/clients/canary.crt"] {
        fs::write(path(name), certificate.pem()).unwrap();
    }
    fs::write(path("certs/clients/canary.key"), key.serialize_pem()).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path("certs/clients/canary.key"), private).unwrap();
    let once = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sanctum-canary"));
        command.arg("--config").arg(path("fleet.toml"));
        let once = command.arg("--once").env_remove("RUST_LOG").output();
        String::from_utf8(once.unwrap().stdout).unwrap()
    };
    let text_of_once = once();
    assert!(
        text_of_once
            .starts_with("server on mini: ok: answered `4` (the standby `escape-hatch` serves)"),
        "{text_of_once}"
    );
    while let Ok(request) = requests.try_recv() {
        let head = request.to_lowercase();
        assert!(
            !head.contains("authorization"),
            "no token for a standby: {head}"
        );
    }
    // Without a standby in fleet.toml, the closed TLS address is a miss.
    fs::write(
        path("fleet.toml"),
        text.replace("standby_for = \"server\"\n", ""),
    )
    .unwrap();
    let text_of_once = once();
    assert!(
        text_of_once.contains("server on mini: miss: https://127.0.0.1:"),
        "{text_of_once}"
    );
    assert!(text_of_once.contains("cannot be reached"), "{text_of_once}");
}
