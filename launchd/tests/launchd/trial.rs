//! The checks and the trial server before an upgrade.

use std::fs;

use crate::host::{Host, executable, upgrading};

#[test]
fn trial_precedes_any_change() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    // A shell script that prints its version and exits: a server that exits when it starts.
    let release = host.release("2");
    let line = [
        "upgrade",
        "--trial",
        "always",
        "--release",
        release.to_str().unwrap(),
    ];
    let said = host.run(&line).fails(1);
    assert!(
        said.contains("nothing has been changed: a second instance exited"),
        "{said}"
    );
    assert_eq!(host.calls(), [""; 0]);
    host.is_whole("1");
}

/// A trial server that never becomes ready.
const ENDLESS: &str = "[ \"$1\" = --host ] && exec sleep 1000";

#[test]
fn patience_limits_the_trial() {
    let host = Host::new();
    host.install("1").ok();
    host.release_with_server("endless", ENDLESS);
    let release = host.release("endless");
    let line = [
        "upgrade",
        "--patience",
        "1",
        "--trial",
        "always",
        "--release",
        release.to_str().unwrap(),
    ];
    let said = host.run(&line).fails(1);
    assert!(
        said.contains("a second instance was not ready after 1 s (--patience)"),
        "{said}"
    );
    assert!(!host.home().join("state/trial.json").exists());
    host.is_whole("1");
}

#[test]
fn patience_limits_the_version_check() {
    let host = Host::new();
    host.install("1").ok();
    host.release_with_server("mute", "[ \"$1\" = --version ] && exec sleep 1000");
    let release = host.release("mute");
    let line = [
        &upgrading(release.to_str().unwrap())[..],
        &["--patience", "1"],
    ]
    .concat();
    let said = host.run(&line).fails(1);
    assert!(
        said.contains("did not finish within") && said.contains("(--patience)"),
        "{said}"
    );
    host.is_whole("1");
}

#[test]
fn trial_of_a_killed_upgrade_is_ended_by_the_next_command() {
    let host = Host::new();
    host.install("1").ok();
    host.release_with_server("endless", ENDLESS);
    let release = host.release("endless");
    let line = [
        "upgrade",
        "--trial",
        "always",
        "--release",
        release.to_str().unwrap(),
    ];
    let mut upgrade = host.command(&line).spawn().unwrap();
    let record = host.home().join("state/trial.json");
    while !record.exists() {
        assert_eq!(upgrade.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    upgrade.kill().unwrap();
    upgrade.wait().unwrap();
    // `sleep` does not read its standard input, as an older server does not.
    let trial = host.record("trial.json")["process"].clone();
    let trial: sanctum_host::ProcessIdentity = serde_json::from_value(trial).unwrap();
    assert!(trial.is_running().unwrap());
    assert_eq!(host.findings(), ["interrupted"]);
    // If the state of the process is unknown, the record and the trial stay.
    let ps = host.at("ps");
    executable(&ps, "#!/bin/sh\necho 'not permitted' >&2\nexit 1\n");
    let broken = [("SANCTUM_PS", ps.to_str().unwrap())];
    let said = host.run_with(&["install"], &broken).fails(1);
    assert!(
        said.contains("cannot tell whether the trial of `server`")
            && said.contains("not permitted"),
        "{said}"
    );
    assert!(trial.is_running().unwrap() && record.exists());
    let said = host.run_with(&["verify"], &broken).fails(1);
    assert!(said.contains("cannot tell whether the trial"), "{said}");
    let said = host.run(&["install"]).ok();
    assert!(said.contains("ended the trial of `server`"), "{said}");
    assert!(!trial.is_running().unwrap() && !record.exists());
    host.is_whole("1");
}

#[test]
fn trial_record_of_a_reused_process_number_ends_nothing() {
    let host = Host::new();
    host.install("1").ok();
    let mut other = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let record = serde_json::json!({
        "server": "server",
        "process": { "pid": other.id(), "started": "at another time" },
    });
    fs::write(host.home().join("state/trial.json"), record.to_string()).unwrap();
    host.install("1").ok();
    assert_eq!(other.try_wait().unwrap(), None);
    other.kill().unwrap();
    other.wait().unwrap();
    host.is_whole("1");
}
