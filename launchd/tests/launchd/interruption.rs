//! A command killed at every step: the installed files are of one release, `verify` names the interruption once, and the next
//! command continues. Fault points exist in debug builds only, and so do these tests.
#![cfg(debug_assertions)]

use std::fs;
use std::time::Duration;

use crate::host::{Host, LaunchdOutput};

/// Every boundary of an upgrade from release 1 to release 2 with a changed fleet.toml, in order; whether files have
/// been switched by then; and whether a journal is there.
const BOUNDARIES: [(&str, bool, bool); 18] = [
    ("lease", false, false),
    ("store", false, false),
    ("staged", false, false),
    ("journal", false, true),
    ("bootout:server", false, true),
    ("bootout:parity", false, true),
    ("bootout:guardian", false, true),
    ("put:sanctum-server", true, true),
    ("put:fleet.toml", true, true),
    ("switch", true, true),
    ("bootstrap:guardian", true, true),
    ("bootstrap:parity", true, true),
    ("bootstrap:server", true, true),
    ("checked", true, true),
    ("post-deploy-checks", true, true),
    ("recorded", true, true),
    ("receipt", true, true),
    ("done", true, false),
];

fn was_killed(said: &LaunchdOutput) -> bool {
    said.code.is_none() && said.err.contains("SANCTUM_FAULT")
}

/// A host on which an upgrade was killed at a boundary.
fn interrupted(boundary: &str) -> Host {
    let host = Host::new();
    host.install("1").ok();
    host.fleet("[alerts.desk]\nkind = \"desktop\"\nsound = \"Submarine\"\n");
    let said = host.upgrade("2", boundary);
    assert!(
        was_killed(&said),
        "{boundary}: {:?} {}{}",
        said.code,
        said.out,
        said.err
    );
    host
}

#[test]
fn killed_upgrade_leaves_one_whole_release_and_the_next_command_continues() {
    for (boundary, switched, journal) in BOUNDARIES {
        let host = interrupted(boundary);
        // Within the switch, microseconds long, no agent runs; at every other boundary all files are of one release.
        if !boundary.starts_with("put:") {
            let whole = if switched { "2" } else { "1" };
            assert!(
                host.installed().values().all(|v| v == whole),
                "{boundary}: {:?}",
                host.installed()
            );
        } else {
            assert!(
                !host.is_loaded("server") && !host.is_loaded("guardian"),
                "{boundary}"
            );
        }
        let mut found = host.findings();
        // Without a journal, the lease of the killed command is reported.
        if !journal && boundary != "done" {
            assert!(
                found.iter().any(|kind| kind == "lease"),
                "{boundary}: {found:?}"
            );
        }
        found.retain(|kind| kind != "lease");
        // Half-switched files and stopped agents are no findings beside the interruption.
        let expected: &[&str] = match (journal, boundary) {
            (true, _) => &["interrupted"],
            // The fleet.toml in use is not deployed yet.
            (false, "done") => &[],
            (false, _) => &["undeployed"],
        };
        assert_eq!(found, expected, "{boundary}");

        let said = host.run(&["install"]);
        assert_eq!(said.code, Some(0), "{boundary}: {}{}", said.out, said.err);
        host.is_whole(if switched { "2" } else { "1" });
    }
}

#[test]
fn rollback_rolls_back_an_interrupted_upgrade() {
    for (boundary, _, journal) in BOUNDARIES {
        let host = interrupted(boundary);
        if !journal {
            continue;
        }
        let said = host.run(&["rollback"]).ok();
        assert!(said.contains("was rolled back"), "{boundary}: {said}");
        host.fleet("");
        host.is_whole("1");
    }
}

#[test]
fn killed_first_install_is_finished_by_the_next() {
    for boundary in [
        "lease",
        "store",
        "journal",
        "disable:hatch",
        "staged",
        "put:parity.json",
        "switch",
        "active",
        "bootstrap:parity",
        "receipt",
    ] {
        let host = Host::new();
        let release = host.release("1");
        let line = ["install", "--release", release.to_str().unwrap()];
        let said = host.run_with(&line, &[("SANCTUM_FAULT", boundary)]);
        assert!(was_killed(&said), "{boundary}: {}{}", said.out, said.err);
        host.run(&line).ok();
        host.is_whole("1");
    }
}

#[test]
fn killed_rollback_is_continued_by_the_next_command() {
    for boundary in ["rollback", "bootout:server", "switch", "bootstrap:guardian"] {
        let host = interrupted("bootstrap:server");
        let said = host.run_with(&["rollback"], &[("SANCTUM_FAULT", boundary)]);
        assert!(was_killed(&said), "{boundary}: {}{}", said.out, said.err);
        // An install continues the rollback before its own work.
        let said = host.run(&["install"]).ok();
        assert!(said.contains("being rolled back"), "{boundary}: {said}");
        host.is_whole("1");
    }
}

#[test]
fn killed_switch_to_the_standby_is_rolled_back() {
    for boundary in [
        "disable:server",
        "bootout:server",
        "active",
        "enable:hatch",
        "bootstrap:hatch",
    ] {
        let host = Host::new();
        host.install("1").ok();
        let said = host.run_with(
            &["rollback", "--agent", "hatch"],
            &[("SANCTUM_FAULT", boundary)],
        );
        assert!(was_killed(&said), "{boundary}: {}{}", said.out, said.err);
        assert!(
            !(host.is_loaded("server") && host.is_loaded("hatch")),
            "never both"
        );
        host.run(&["install"]).ok();
        // No file changes in this switch, so it is rolled back.
        host.is_whole("1");
        assert!(
            host.is_disabled("hatch") && !host.is_disabled("server"),
            "{boundary}"
        );
    }
}

#[test]
fn status_of_a_killed_command_names_the_interruption_and_does_not_call_it_running() {
    for boundary in ["bootout:server", "switch", "rollback"] {
        let host = match boundary {
            "rollback" => {
                let host = interrupted("bootstrap:server");
                let fault = [("SANCTUM_FAULT", boundary)];
                assert!(was_killed(&host.run_with(&["rollback"], &fault)));
                host
            }
            _ => interrupted(boundary),
        };
        let said = host.run(&["status"]).fails(1);
        assert!(
            said.contains("was interrupted before its step")
                && !said.contains("is running (process"),
            "{boundary}: {said}"
        );
        assert!(said.contains("run: sanctum-launchd install"), "{said}");
    }
}

#[test]
fn status_of_a_running_command_names_its_process() {
    let host = Host::new();
    host.install("1").ok();
    let state = host.home().join("state");
    // As a command that has begun to work.
    let lock = sanctum_config::FileLock::take(&state.join("launchd.lock"), Duration::ZERO);
    let lock = lock.unwrap().expect("no command is running");
    let lease = sanctum_host::lease::take(
        &state.join("lease.json"),
        "sanctum-launchd upgrade",
        "a test",
        Duration::from_secs(60),
    );
    let said = host.run(&["status"]).fails(1);
    let running = format!(
        "`sanctum-launchd upgrade` is running (process {})",
        std::process::id()
    );
    assert!(said.contains(&running), "{said}");
    drop((lock, lease));
    assert!(!host.run(&["status"]).out.contains("is running (process"));
}

#[test]
fn uninstall_that_finishes_an_upgrade_waits_for_its_patience() {
    let host = interrupted("switch");
    fs::write(host.home().join("bin/loading"), "1000").unwrap();
    let said = host.run(&["uninstall", "--patience", "1"]).fails(3);
    assert!(
        said.contains("was not ready after 1 s (--patience): loading"),
        "{said}"
    );
    host.fleet("");
    host.is_whole("1");
}

#[test]
fn damaged_journal_is_named() {
    let host = Host::new();
    host.install("1").ok();
    fs::write(host.home().join("state/journal.json"), "{").unwrap();
    assert_eq!(host.findings(), ["interrupted"]);
    let said = host.run(&["install"]).fails(1);
    assert!(said.contains("journal.json is damaged"), "{said}");
}
