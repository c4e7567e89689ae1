//! What `verify` finds besides files and agents, and another host's receipt.

use std::fs;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::host::{Host, executable};

/// The findings of one kind, as text.
fn found(host: &Host, kind: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let said = host.run_with(&["verify", "--json"], environment).out;
    let said: Value = serde_json::from_str(&said).unwrap();
    let all = said["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["kind"] == kind)
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            format!("{}: {} {}", text("subject"), text("problem"), text("fix"))
        })
        .collect()
}

fn write_state(host: &Host, heartbeat: DateTime<Utc>, checked: DateTime<Utc>) {
    let state = host.home().join("state/watch/guardian.json");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    let text = json!({
        "agent": "guardian", "heartbeat": heartbeat, "checked": checked, "due": null, "last": null, "misses": 0,
        "missing_since": null, "busy_since": null, "open": {}, "hours": [],
    });
    fs::write(&state, text.to_string()).unwrap();
}

#[test]
fn watchdog_that_has_stopped_is_found() {
    let host = Host::new();
    host.install("1").ok();
    let now = Utc::now();
    let watchdogs = || found(&host, "watchdog", &[]);
    assert_eq!(watchdogs(), [""; 0], "it was installed a moment ago");
    write_state(&host, now, now);
    assert_eq!(watchdogs(), [""; 0]);
    write_state(&host, now - TimeDelta::hours(1), now - TimeDelta::hours(1));
    let silent = watchdogs();
    assert!(
        silent[0].starts_with("com.sanctum.guardian: it has stopped: its last heartbeat was at")
    );
    assert!(
        silent[0].contains("launchctl kickstart -k gui/"),
        "{silent:?}"
    );
    assert_eq!(watchdogs(), silent, "with the same text");
    write_state(&host, now, now - TimeDelta::hours(1));
    assert!(watchdogs()[0].contains("it runs and does not check"));
    // Installed long ago, without a state.
    let receipt = host.home().join("state/receipt.json");
    let mut record = host.record("receipt.json");
    record["installed"] = "2026-01-01T00:00:00Z".into();
    fs::write(&receipt, record.to_string()).unwrap();
    fs::remove_file(host.home().join("state/watch/guardian.json")).unwrap();
    let never = watchdogs();
    assert_eq!(never.len(), 2, "guardian and parity: {never:?}");
    assert!(never[0].contains("it has never written its state"));
}

#[test]
fn process_of_a_replaced_program_is_found_through_lsof() {
    let host = Host::new();
    host.install("1").ok();
    // The process of a script is its interpreter, so it proves nothing.
    for program in fs::read_dir(host.home().join("bin")).unwrap() {
        fs::write(program.unwrap().path(), "\x7fELF").unwrap();
    }
    let tool = host.at("lsof");
    let says = |text: &str| {
        executable(
            &tool,
            &format!("#!/bin/sh\n[ \"$*\" = '-a -p 99999999 -d txt -F in' ] && printf '{text}'\n"),
        );
        found(
            &host,
            "old-program",
            &[("SANCTUM_LSOF", tool.to_str().unwrap())],
        )
    };
    assert_eq!(says(""), [""; 0], "it has ended");
    let old = says("p99999999\\nftxt\\ni1\\nn/old\\n");
    assert_eq!(old.len(), 3, "a program of others may be a script: {old:?}");
    assert!(old[0].contains("was replaced after the process had started"));
    let gone = [("SANCTUM_LSOF", "/no/such/lsof")];
    assert!(found(&host, "old-program", &gone)[0].contains("it is unknown which program"));
}

#[test]
fn stored_release_that_differs_from_the_receipt_is_found() {
    let host = Host::new();
    host.install("1").ok();
    assert_eq!(found(&host, "release", &[]), [""; 0]);
    let file = host.home().join("releases/1/release.json");
    let text = fs::read_to_string(&file).unwrap();
    let mut release: Value = serde_json::from_str(&text).unwrap();
    release["files"][0]["sha256"] = "0".repeat(64).into();
    fs::write(&file, release.to_string()).unwrap();
    let found_one = found(&host, "release", &[]);
    assert!(
        found_one[0].contains("and the receipt says"),
        "{found_one:?}"
    );
    fs::remove_file(&file).unwrap();
    assert!(found(&host, "release", &[])[0].contains("sanctum-launchd install --release FOLDER"));
}

#[test]
fn receipt_of_another_host_is_checked_and_copied() {
    let host = Host::new();
    host.fleet("[hosts.laptop]\naddress = \"b\"\n");
    let file = host.at("fleet.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("[hosts.mini]\n", "[hosts.mini]\nssh = \"ada@mini\"\n"),
    )
    .unwrap();
    let release = |version: &str| host.release(version).to_str().unwrap().to_owned();
    host.run(&["install", "--host", "mini", "--release", &release("1")])
        .ok();

    // The laptop's home is another one; its ssh runs the line with the mini's.
    let laptop = host.at("laptop");
    fs::create_dir(&laptop).unwrap();
    let ssh = host.at("ssh");
    let script = format!(
        "#!/bin/sh\nHOME='{}' exec sh -c \"$7\"\n",
        host.at("user").display()
    );
    executable(&ssh, &script);
    let receipt = |more: &[&str]| {
        let line: Vec<&str> = ["receipt", "--host", "mini"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        let environment = [
            ("HOME", laptop.to_str().unwrap()),
            ("SANCTUM_SSH", ssh.to_str().unwrap()),
        ];
        host.run_with(&line, &environment)
    };
    let copy: PathBuf = laptop.join(".sanctum/state/receipts/mini.json");
    let said = receipt(&["--release", &release("2")]).fails(1);
    assert!(
        said.contains("release 1 is installed there, and the folder is release 2"),
        "{said}"
    );
    receipt(&["--release", &release("1"), "--dry-run"]).ok();
    assert!(!copy.exists());
    let said = receipt(&["--release", &release("1")]).ok();
    assert!(
        said.contains("this host compares mini with release 1 of"),
        "{said}"
    );
    let kept: Value = serde_json::from_slice(&fs::read(&copy).unwrap()).unwrap();
    assert_eq!(kept["agents"], host.record("receipt.json")["agents"]);
    assert!(
        receipt(&["--release", &release("1")])
            .ok()
            .contains("nothing to do")
    );
    let said = receipt(&[]).ok();
    assert!(
        said.contains("the digests of mini's programs are mini's own"),
        "{said}"
    );

    // After an upgrade, the operator has to confirm the change.
    host.upgrade("2", "").ok();
    let said = receipt(&["--release", &release("2")]).fails(1);
    assert!(
        said.contains("bin/sanctum-server differs") && said.contains("--yes"),
        "{said}"
    );
    receipt(&["--release", &release("2"), "--yes"]).ok();

    // There is no sanctum-launchd on that host here: the findings from outside are reported all the same.
    let verify = || {
        let environment = [
            ("HOME", laptop.to_str().unwrap()),
            ("SANCTUM_SSH", ssh.to_str().unwrap()),
        ];
        host.run_with(&["verify", "--host", "mini"], &environment)
            .fails(1)
    };
    let said = verify();
    assert!(
        said.contains("mini: its own report") && said.contains("mini: 1 finding"),
        "{said}"
    );
    executable(&host.home().join("bin/sanctum-server"), "replaced");
    let said = verify();
    assert!(
        said.contains("bin/sanctum-server: its contents are not the installed ones"),
        "{said}"
    );

    // A changed receipt of the mini does not match the release.
    let theirs = host.home().join("state/receipt.json");
    let mut record = host.record("receipt.json");
    record["artefacts"][0]["sha256"] = "0".repeat(64).into();
    fs::write(&theirs, record.to_string()).unwrap();
    let said = receipt(&["--release", &release("2"), "--yes"]).fails(1);
    assert!(
        said.contains("differs; run there, with this fleet.toml"),
        "{said}"
    );
    // A receipt of a copy of the files is refused too.
    let text = host.record("receipt.json").to_string();
    let decoy = text.replace("/user/.sanctum/", "/user/decoy/");
    assert_ne!(text, decoy);
    fs::write(&theirs, decoy).unwrap();
    let said = receipt(&["--yes"]).fails(1);
    assert!(
        said.contains("user/.sanctum/bin/sanctum-server is removed"),
        "{said}"
    );
}
