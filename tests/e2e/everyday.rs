//! The commands of every day: logs, stop, start, restart, pause. On the host itself, and from another one over ssh.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::host::{Host, SOON, label, runs};
use crate::laptop::Laptop;

const AGENTS: [&str; 3] = ["server", "guardian", "canary"];

const WATCHDOGS: &str = r#"
[watch.guardian]
target = "server"
every = "300ms"
timeout = "1s"
misses = 2
startup_grace = "1s"
alert = ["log"]
[watch.canary]
target = "server"
every = "300ms"
misses = 2
alert = ["log"]
[alerts.log]
"#;

fn installed() -> Host {
    let host = Host::new();
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    host.fleet(&AGENTS, "", WATCHDOGS);
    host.install("1");
    host.all_well(&["guardian", "canary"]);
    host
}

/// The alerts that the watchdogs have raised so far.
fn alerts(host: &Host) -> Vec<String> {
    let logs = ["guardian", "canary"].map(|agent| host.log(agent));
    let lines = logs.iter().flat_map(|log| log.lines());
    let entries = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries
        .filter(|entry| !entry["alert"].is_null() || !entry["severity"].is_null())
        .map(|entry| entry.to_string())
        .collect()
}

#[test]
fn stopped_server_stays_stopped_and_nothing_alerts() {
    let host = installed();
    let said = host.must(&["stop", "server", "--reason", "new disk"]);
    assert!(said.contains("sanctum-launchd start server"), "{said}");
    let is_stopped = |all: &[_]| !runs(all, "server") && runs(all, "guardian");
    host.launchd.wait(SOON, is_stopped).unwrap();
    for watchdog in ["guardian", "canary"] {
        host.look_on(watchdog, 8);
        let verdict = host.verdict(watchdog);
        assert!(
            verdict.starts_with("stopped: server is stopped on purpose"),
            "{verdict}"
        );
        assert!(verdict.contains("(new disk)"), "{verdict}");
    }
    assert_eq!((host.restarts(), alerts(&host)), (0, Vec::new()));
    let shown = host.must(&["status"]);
    assert!(
        shown.contains("all is well") && shown.contains("stopped on purpose: server"),
        "{shown}"
    );
    assert!(host.must(&["verify"]).contains("1 warning"));
    let (code, said) = host.run(&["restart", "server"]);
    assert!(
        code == Some(1) && said.contains("sanctum-launchd start server"),
        "{said}"
    );

    // Neither a login nor a deployment starts it.
    host.launchd.login().unwrap();
    host.launchd.wait(SOON, is_stopped).unwrap();
    assert!(host.must(&["install"]).contains("nothing to do"));
    host.release_of_scripts("2", "exec \"$SERVER\" \"$@\"");
    let said = host.must(&["upgrade", "--release", "2"]);
    assert!(said.contains("`server` is stopped on purpose"), "{said}");
    host.launchd.wait(SOON, is_stopped).unwrap();
    host.must(&["verify"]);

    let said = host.must(&["start", "server"]);
    assert!(said.contains("answered correctly"), "{said}");
    let program = fs::read_to_string(host.path(".sanctum/bin/sanctum-server")).unwrap();
    assert!(program.contains("# release 2"), "{program}");
    host.all_well(&["guardian", "canary"]);
    let shown = host.must(&["status"]);
    assert!(!shown.contains("stopped"), "{shown}");
    assert_eq!((host.restarts(), alerts(&host)), (0, Vec::new()));
    assert!(host.must(&["start", "server"]).contains("nothing to do"));
}

#[test]
fn stop_that_is_killed_half_way_is_completed_by_stop_or_start() {
    let host = installed();
    let mut killed = host.command(&["stop", "server"]);
    killed.env("SANCTUM_FAULT", "stop-recorded");
    assert_eq!(killed.output().unwrap().status.code(), None, "it is killed");
    // Recorded as stopped, and still running: it is guarded, and verify says so.
    let (code, said) = host.run(&["verify"]);
    assert!(
        code == Some(1) && said.contains("and it is loaded"),
        "{said}"
    );
    host.must(&["stop", "server"]);
    host.launchd.wait(SOON, |all| !runs(all, "server")).unwrap();
    host.must(&["verify"]);
    host.must(&["start", "server"]);
    host.must(&["verify"]);
}

#[test]
fn restart_waits_until_the_agent_is_healthy() {
    let host = installed();
    let before = host.running("server").pid;
    let said = host.must(&["restart", "server"]);
    assert!(said.contains("answered correctly"), "{said}");
    assert_ne!(host.running("server").pid, before);
    let before = host.running("canary").pid;
    let said = host.must(&["restart", "canary"]);
    assert!(said.contains("has written its heartbeat"), "{said}");
    assert_ne!(host.running("canary").pid, before);
    assert_eq!((host.restarts(), alerts(&host)), (0, Vec::new()));
    let (code, said) = host.run(&["restart", "sever"]);
    assert!(
        code == Some(1) && said.contains("did you mean `server`"),
        "{said}"
    );
}

#[test]
fn maintenance_window_pauses_watchdogs_until_it_is_closed() {
    let host = installed();
    host.must(&["pause", "--for", "30m", "--reason", "new disk"]);
    host.signal("server", "SIGSTOP");
    host.wait("a verdict that is shown", |host| {
        host.verdict("canary").starts_with("miss:")
    });
    host.look_on("guardian", 6);
    host.look_on("canary", 4);
    assert_eq!((host.restarts(), alerts(&host)), (0, Vec::new()));
    let (_, shown) = host.run(&["status"]);
    assert!(
        shown.contains("maintenance window until") && shown.contains("(new disk)"),
        "{shown}"
    );
    let said = host.must(&["resume"]);
    assert!(said.contains("watchdogs alert and act"), "{said}");
    host.wait("the restart", |host| host.restarts() == 1);
    host.all_well(&["guardian", "canary"]);
    let (_, shown) = host.run(&["status"]);
    assert!(!shown.contains("maintenance window"), "{shown}");
}

#[test]
fn logs_are_escaped_and_followed_across_rotation() {
    let host = installed();
    let said = host.must(&["logs", "server", "-n", "1000"]);
    assert!(said.contains(" INFO ready address="), "{said}");
    assert_eq!(host.must(&["logs", "server", "-n", "2"]).lines().count(), 2);
    let json = host.must(&["logs", "server", "-n", "2", "--json"]);
    for line in json.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["level"], "INFO");
    }
    let mut follow = host.command(&["logs", "canary", "-f", "-n", "1"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(follow.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::sync_channel(1000);
    std::thread::spawn(move || {
        let mut lines = output.lines().map_while(Result::ok);
        // The output is closed when the test has dropped its end of the channel.
        lines.try_for_each(|line| sender.send(line))
    });
    let log = host.path(".sanctum/logs/canary.log");
    let append = |text: &str| {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let until = |mark: &str| {
        let begun = Instant::now();
        loop {
            let line = lines.recv_timeout(SOON.saturating_sub(begun.elapsed()));
            match line {
                Ok(line) if line.contains(mark) => return line,
                Ok(_) => {}
                Err(error) => panic!("`{mark}` is not followed: {error}"),
            }
        }
    };
    // It has opened the log.
    until("kind=ok");
    append("first \x1b[2J\n");
    assert_eq!(until("first"), r"first \u{1b}[2J");
    append("end of the old log\n");
    fs::rename(&log, host.path(".sanctum/logs/canary.log.1")).unwrap();
    append("begin of the new log\n");
    until("end of the old log");
    until("begin of the new log");
    // The reader goes away.
    drop(lines);
    let begun = Instant::now();
    while follow.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < SOON, "it has no reader and does not end");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn commands_reach_another_host_over_ssh() {
    let host = Host::new();
    let Some(laptop) = Laptop::of(&host, &[]) else {
        return;
    };
    let offbox = "[hosts.laptop]\naddress = \"127.0.0.2\"\nagents = [\"canary-offbox\"]\n\
                  [watch.canary-offbox]\ncheck = \"canary\"\ntarget = \"server\"\nalert = [\"log\"]\n";
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    host.fleet(&AGENTS, "", &format!("{WATCHDOGS}{offbox}"));
    let fleet = fs::read_to_string(host.path("fleet.toml")).unwrap();
    let fleet = fleet.replacen("[hosts.here]\n", "[hosts.here]\nssh = \"here\"\n", 1);
    fs::write(host.path("fleet.toml"), fleet).unwrap();
    host.install("1");
    host.all_well(&["guardian", "canary"]);
    laptop.has_receipt();

    let said = laptop.must(&["logs", "server", "-n", "1000", "--host", "here"]);
    assert!(said.contains(" INFO ready address="), "{said}");
    let before = host.running("server").pid;
    let said = laptop.must(&["restart", "server", "--host", "here"]);
    assert!(said.contains("answered correctly"), "{said}");
    assert_ne!(host.running("server").pid, before);

    let line = [
        "stop",
        "server",
        "--host",
        "here",
        "--reason",
        "it's a test",
    ];
    let said = laptop.must(&line);
    assert!(
        said.contains("canary-offbox on this host does not alert"),
        "{said}"
    );
    assert!(!said.contains("does not know"), "{said}");
    assert_eq!(laptop.record("stopped")["server"]["reason"], "it's a test");
    host.launchd.wait(SOON, |all| !runs(all, "server")).unwrap();
    laptop.must(&["start", "server", "--host", "here"]);
    assert!(laptop.record("stopped")["server"].is_null());
    host.launchd
        .wait_for(&label("server"), SOON, |s| s.pid.is_some())
        .unwrap();

    laptop.must(&["pause", "--for", "10m"]);
    assert!(!laptop.record("window").is_null());
    let shown = host.must(&["status", "--local"]);
    assert!(shown.contains("maintenance window until"), "{shown}");
    laptop.must(&["resume"]);
    assert!(laptop.record("window").is_null());
    let shown = host.must(&["status", "--local"]);
    assert!(!shown.contains("maintenance window"), "{shown}");

    // Refused here, before the other host is asked.
    let mut failed = laptop.command(&["restart", "sever", "--host", "here"]);
    let (code, said) = crate::host::said(failed.output().unwrap());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("did you mean `server`"), "{said}");
    assert!(said.contains("here has no agent `sever`"), "{said}");
}
