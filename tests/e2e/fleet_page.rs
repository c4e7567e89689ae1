//! The fleet page: `sanctum-launchd status --serve`, by hand and as an agent.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use sanctum_tests::Raw;
use serde_json::Value;

use crate::host::{Host, SOON, label, runs};
use crate::laptop::Laptop;

const LOCAL: &str = "host: 127.0.0.1";

const CANARY: &str = "[watch.canary]\ntarget = \"server\"\nevery = \"300ms\"\nmisses = 2\nalert = [\"log\"]\n[alerts.log]\n";

fn get(port: u16, request: &str, headers: &[&str]) -> Raw {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    Raw::ask(stream, request, headers, "")
}

fn status(port: u16) -> Value {
    let answer = get(port, "GET /status.json", &[LOCAL]);
    assert_eq!(answer.status, 200, "{}", answer.head);
    serde_json::from_str(&answer.body).unwrap()
}

/// Waits until the page shows something, and returns it.
#[track_caller]
fn shows(port: u16, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let page = status(port);
        if wanted(&page) {
            return page;
        }
        assert!(begun.elapsed() < SOON, "waited for {what}: {page:#}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn host<'a>(page: &'a Value, name: &str) -> &'a Value {
    let hosts = page["hosts"].as_array().unwrap();
    hosts.iter().find(|host| host["host"] == name).unwrap()
}

/// The letters of the last 24 hours, without the time before the first observation.
fn states(page: &Value) -> String {
    let states = page["servers"][0]["day"]["states"].as_str().unwrap();
    states.trim_start_matches('-').to_owned()
}

fn is_up(page: &Value) -> bool {
    page["servers"][0]["availability"] == "up" && states(page) == "u"
}

/// A port that no program listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A host with a server and a canary, and with another host that ssh cannot reach. It is not installed yet.
fn with_unreachable_host(page: &str) -> Host {
    let host = Host::new();
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    host.fleet(
        &["server", "canary"],
        "",
        &format!("{CANARY}[hosts.gone]\naddress = \"192.0.2.1\"\nssh = \"gone\"\n{page}"),
    );
    let ssh = host.path("no-ssh");
    let script =
        "#!/bin/sh\necho 'ssh: connect to host gone port 22: No route to host' >&2\nexit 255\n";
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let ssh = ssh.display().to_string();
    host.launchd.run(&["setenv", "SANCTUM_SSH", &ssh]).unwrap();
    host
}

#[test]
fn page_as_an_agent_shows_the_fleet_and_its_history() {
    let port = free_port();
    let section = format!(
        "[pages.fleet-page]\nhost = \"here\"\nlisten = \"127.0.0.1:{port}\"\nevery = \"1s\"\n"
    );
    let installed = with_unreachable_host(&section);
    let checked = installed.must(&["check", "--config", "fleet.toml"]);
    assert!(
        checked.contains(&format!(
            "page    the fleet page on http://127.0.0.1:{port}"
        )),
        "{checked}"
    );
    installed.install("1");
    installed.all_well(&["canary"]);
    installed.running("fleet-page");

    let receipt = fs::read_to_string(installed.path(".sanctum/state/receipt.json")).unwrap();
    assert!(receipt.contains(&label("fleet-page")), "{receipt}");
    installed.must(&["verify"]);
    let log = installed.must(&["logs", "fleet-page"]);
    assert!(
        log.contains(&format!(
            "serving the fleet page address=http://127.0.0.1:{port}"
        )),
        "{log}"
    );

    let page = shows(port, "both hosts", |page| {
        is_up(page) && !host(page, "gone")["error"].is_null()
    });
    let here = host(&page, "here");
    let agents = here["status"]["agents"].as_array().unwrap();
    let names: Vec<&str> = agents
        .iter()
        .map(|agent| agent["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["server", "canary", "fleet-page"]);
    assert_eq!(agents[2]["role"], "page");
    assert_eq!(here["error"], Value::Null);
    let gone = host(&page, "gone");
    let error = gone["error"]["message"].as_str().unwrap();
    assert!(
        error.contains("No route to host") && error.contains("try it by hand: ssh gone"),
        "{error}"
    );
    assert_eq!(gone["status"], Value::Null);
    assert!(
        page["summary"].as_str().unwrap().starts_with("1 problem"),
        "{page:#}"
    );

    // The server dies: the page shows it, and keeps what was before.
    let target = installed.target("server");
    installed.launchd.run(&["bootout", &target]).unwrap();
    installed
        .launchd
        .wait(SOON, |all| !runs(all, "server"))
        .unwrap();
    let page = shows(port, "the dead server", |page| {
        page["servers"][0]["availability"] == "down"
            && host(page, "here")["alerts"]["open"][0]["condition"] == "canary/misses"
    });
    assert!(states(&page).ends_with('d'), "{}", states(&page));
    let problems = host(&page, "here")["problems"].to_string();
    assert!(
        problems.contains("here: server is not loaded"),
        "{problems}"
    );
    let before = page["servers"][0]["week"]["availability"].as_f64().unwrap();
    assert!(before > 0.0 && before < 1.0, "{before}");

    // The history survives a restart of the page.
    let pid = installed.running("fleet-page").pid;
    let said = installed.must(&["restart", "fleet-page"]);
    assert!(said.contains("accepts connections"), "{said}");
    assert_ne!(installed.running("fleet-page").pid, pid);
    let page = status(port);
    assert!(
        page["servers"][0]["week"]["availability"].as_f64().unwrap() > 0.0,
        "{page:#}"
    );
    assert!(states(&page).contains('d'), "{}", states(&page));
    assert_eq!(page["history_problem"], Value::Null);

    installed.must(&["uninstall"]);
    installed.launchd.wait(SOON, |all| all.is_empty()).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// A page that was started by hand, and its port. Dropping it kills it.
struct ServedPage {
    child: Child,
    port: u16,
}

impl ServedPage {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let port = line
            .strip_prefix("the fleet page is at http://127.0.0.1:")
            .and_then(|rest| rest.split(';').next()?.parse().ok());
        Self {
            child,
            port: port.unwrap_or_else(|| panic!("{line}")),
        }
    }
}

impl Drop for ServedPage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn page_answers_reads_of_this_machine_only() {
    let installed = with_unreachable_host("");
    installed.install("1");
    let mut page = ServedPage::start(installed.command(&["status", "--serve", "127.0.0.1:0"]));
    let port = page.port;
    let whole = get(port, "GET /", &[LOCAL]);
    assert_eq!(whole.status, 200);
    assert!(whole.body.contains("Sanctum fleet"), "{}", whole.body);
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(
            whole.head.contains(header),
            "{header} is not in {}",
            whole.head
        );
    }
    assert!(!whole.head.contains("access-control"), "{}", whole.head);
    for (request, host, status) in [
        ("HEAD /", LOCAL, 200),
        ("GET /page.js", "host: localhost:9", 200),
        ("GET /page.css", LOCAL, 200),
        ("GET /nothing", LOCAL, 404),
        ("POST /", LOCAL, 405),
        ("DELETE /status.json", LOCAL, 405),
        ("OPTIONS /status.json", LOCAL, 405),
        ("GET /status.json", "host: evil.example", 403),
        ("GET /status.json", "host: 127.0.0.1.evil.example", 403),
    ] {
        let answer = get(port, request, &[host, "origin: http://evil.example"]);
        assert_eq!(answer.status, status, "{request} {host}");
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
        if request.starts_with("HEAD") {
            assert_eq!(answer.body, "");
        }
    }
    let refused = get(port, "POST /", &[LOCAL]);
    assert!(
        refused.head.contains("allow: GET, HEAD") && refused.body.contains("read-only"),
        "{refused:?}"
    );

    // Another page takes neither its port nor its history.
    let (code, said) = installed.run(&["status", "--serve", &format!("127.0.0.1:{port}")]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--serve 127.0.0.1:0"), "{said}");
    let second = ServedPage::start(installed.command(&["status", "--serve", "127.0.0.1:0"]));
    let problem = status(second.port)["history_problem"].to_string();
    assert!(
        problem.contains("another process writes the history"),
        "{problem}"
    );

    for (address, words) in [
        ("0.0.0.0:1340", "0.0.0.0:1340 is no loopback address"),
        ("192.0.2.1:1340", "ssh -L 1340:127.0.0.1:1340"),
        ("localhost", "write an IP address and a port"),
    ] {
        let (code, said) = installed.run(&["status", "--serve", address]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let (code, said) = installed.run(&["status", "--serve", "--page", "fleet"]);
    assert!(
        code == Some(1) && said.contains("no [pages.fleet]"),
        "{said}"
    );

    let pid = rustix::process::Pid::from_child(&page.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(page.child.wait().unwrap().code(), Some(0));
}

#[test]
fn page_keeps_the_last_known_state_of_a_host_that_goes_away() {
    let installed = Host::new();
    let Some(laptop) = Laptop::of(&installed, &[]) else {
        return;
    };
    installed.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    installed.fleet(
        &["server", "canary"],
        "",
        &format!("{CANARY}[hosts.laptop]\naddress = \"127.0.0.2\"\n"),
    );
    let fleet = fs::read_to_string(installed.path("fleet.toml")).unwrap();
    let fleet = fleet.replacen("[hosts.here]\n", "[hosts.here]\nssh = \"here\"\n", 1);
    fs::write(installed.path("fleet.toml"), fleet).unwrap();
    installed.install("1");
    installed.all_well(&["canary"]);
    laptop.has_receipt();
    let page =
        ServedPage::start(laptop.command(&["status", "--serve", "127.0.0.1:0", "--every", "1s"]));
    let known = shows(page.port, "the other host", is_up);
    assert_eq!(host(&known, "here")["status"]["release"], "1");
    assert_eq!(
        host(&known, "here")["alerts"]["open"],
        serde_json::json!([])
    );
    // It runs no agent, and nothing says how it is reached.
    assert_eq!(known["hosts"].as_array().unwrap().len(), 1);

    // Neither sshd nor its client any more.
    drop(laptop);
    let later = shows(page.port, "the error", |page| {
        !host(page, "here")["error"].is_null()
    });
    let here = host(&later, "here");
    assert_eq!(here["status"]["release"], "1");
    assert!(here["age_seconds"].as_u64().is_some(), "{here:#}");
    let error = here["error"]["message"].as_str().unwrap();
    assert!(error.contains("cannot be started"), "{error}");
    let problem = here["problems"][0].as_str().unwrap();
    assert!(
        problem.starts_with("here: not observed since "),
        "{problem}"
    );
    shows(page.port, "an unknown state", |page| {
        page["servers"][0]["availability"].is_null()
    });
}
