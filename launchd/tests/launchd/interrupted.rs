//! Killed at every step boundary: what is in place is whole, `verify` names the interruption, the next command goes on.
//! Faults exist in debug builds only, and so do these tests.
#![cfg(debug_assertions)]

use std::fs;

use crate::host::{Host, Said};

/// Every boundary of an upgrade from release 1 to release 2 with a changed fleet.toml, in order; whether files have
/// been switched by then; and whether a journal is there.
const BOUNDARIES: [(&str, bool, bool); 18] = [
    ("lease", false, false),
    ("keep", false, false),
    ("journal", false, true),
    ("bootout:server", false, true),
    ("bootout:parity", false, true),
    ("bootout:guardian", false, true),
    ("staged", false, true),
    ("put:sanctum-server", true, true),
    ("put:fleet.toml", true, true),
    ("switch", true, true),
    ("bootstrap:guardian", true, true),
    ("bootstrap:parity", true, true),
    ("bootstrap:server", true, true),
    ("asked", true, true),
    ("post-flight", true, true),
    ("remembered", true, true),
    ("receipt", true, true),
    ("done", true, false),
];

fn died(said: &Said) -> bool {
    said.code.is_none() && said.err.contains("SANCTUM_FAULT")
}

/// Dies at a boundary of an upgrade.
fn interrupted(boundary: &str) -> Host {
    let host = Host::new();
    host.install("1").ok();
    host.fleet("[alerts.desk]\nsound = \"Submarine\"\n");
    let said = host.upgrade("2", boundary);
    assert!(
        died(&said),
        "{boundary}: {:?} {}{}",
        said.code,
        said.out,
        said.err
    );
    host
}

#[test]
fn whatever_is_in_place_is_whole_and_the_next_command_goes_on() {
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
        let found = host.findings();
        assert_eq!(
            found.contains(&"interrupted".to_owned()),
            journal,
            "{boundary}: {found:?}"
        );

        let said = host.run(&["install"]);
        assert_eq!(said.code, Some(0), "{boundary}: {}{}", said.out, said.err);
        host.is_whole(if switched { "2" } else { "1" });
    }
}

#[test]
fn rollback_takes_back_what_was_interrupted() {
    for (boundary, _, journal) in BOUNDARIES {
        let host = interrupted(boundary);
        if !journal {
            continue;
        }
        let said = host.run(&["rollback"]).ok();
        assert!(said.contains("was taken back"), "{boundary}: {said}");
        host.fleet("");
        host.is_whole("1");
    }
}

#[test]
fn a_first_install_can_be_interrupted_too() {
    for boundary in [
        "lease",
        "keep",
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
        assert!(died(&said), "{boundary}: {}{}", said.out, said.err);
        host.run(&line).ok();
        host.is_whole("1");
    }
}

#[test]
fn going_back_can_be_interrupted_and_goes_on() {
    for boundary in [
        "taking-back",
        "bootout:server",
        "switch",
        "bootstrap:guardian",
    ] {
        let host = interrupted("bootstrap:server");
        let said = host.run_with(&["rollback"], &[("SANCTUM_FAULT", boundary)]);
        assert!(died(&said), "{boundary}: {}{}", said.out, said.err);
        // Even an install goes on going back before it does its own work.
        let said = host.run(&["install"]).ok();
        assert!(said.contains("being taken back"), "{boundary}: {said}");
        host.is_whole("1");
    }
}

#[test]
fn a_flip_can_be_interrupted() {
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
        assert!(died(&said), "{boundary}: {}{}", said.out, said.err);
        assert!(
            !(host.is_loaded("server") && host.is_loaded("hatch")),
            "never both"
        );
        host.run(&["install"]).ok();
        // No file changes in a flip, so it is taken back.
        host.is_whole("1");
        assert!(
            host.is_disabled("hatch") && !host.is_disabled("server"),
            "{boundary}"
        );
    }
}

#[test]
fn a_damaged_journal_is_named() {
    let host = Host::new();
    host.install("1").ok();
    fs::write(host.home().join("state/journal.json"), "{").unwrap();
    assert_eq!(host.findings(), ["interrupted"]);
    let said = host.run(&["install"]).fails(1);
    assert!(said.contains("journal.json is damaged"), "{said}");
}
