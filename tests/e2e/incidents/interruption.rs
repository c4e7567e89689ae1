//! A power failure, a closed lid, `kill -9`: install, upgrade and rollback are killed after each of their steps, and the host
//! runs one whole release. Fault points exist in debug builds only, and so do these tests.

use std::collections::BTreeSet;
use std::fs;

use crate::host::{Host, SOON, runs, said};

/// The boundaries of a change from one release to another with a changed fleet.toml, in order; and whether files have
/// been switched by then.
const BOUNDARIES: [(&str, bool); 14] = [
    ("lease", false),
    ("store", false),
    ("staged", false),
    ("journal", false),
    ("bootout:server", false),
    ("bootout:guardian", false),
    ("put:sanctum-server", true),
    ("put:fleet.toml", true),
    ("switch", true),
    ("bootstrap:guardian", true),
    ("bootstrap:server", true),
    ("recorded", true),
    ("receipt", true),
    ("done", true),
];

/// There is no journal at these boundaries.
const NO_JOURNAL: [&str; 4] = ["lease", "store", "staged", "done"];

/// A host without an installation; releases 1 and 2 exist.
fn host() -> Host {
    let host = Host::new();
    for version in ["1", "2"] {
        host.release_of_scripts(version, "exec \"$SERVER\" \"$@\"");
    }
    fleet(&host, 0);
    host
}

/// Writes fleet.toml; each edition differs.
fn fleet(host: &Host, edition: usize) {
    let server = sanctum_tests::program("sanctum-server");
    let sections = format!(
        "[agents.hatch]\nhost = \"here\"\nstandby_for = \"server\"\n\
         program = [{:?}, \"--port\", \"{}\", \"--threads\", \"1\"]\n\
         [watch.guardian]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"2s\"\nstartup_grace = \"60s\"\n\
         alert = [\"log\"]\n[alerts.log]\n# edition {edition}",
        server.display(),
        host.port()
    );
    host.fleet(&["server", "guardian"], "", &sections);
}

/// Runs a command that is killed at a boundary.
#[track_caller]
fn kill_at(host: &Host, line: &[&str], boundary: &str) {
    let output = host.command(line).env("SANCTUM_FAULT", boundary).output();
    let (code, text) = said(output.unwrap());
    assert!(
        code.is_none() && text.contains("SANCTUM_FAULT"),
        "{line:?} at {boundary}: {code:?} {text}"
    );
}

/// The releases that the installed programs are of.
fn installed(host: &Host) -> BTreeSet<String> {
    let programs = fs::read_dir(host.path(".sanctum/bin"));
    let release = |path: std::path::PathBuf| {
        // A staged file is not installed yet.
        if path.extension().is_some_and(|end| end == "new") {
            return None;
        }
        let text = fs::read_to_string(path).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("# release "));
        line.map(str::to_owned)
    };
    programs
        .into_iter()
        .flatten()
        .filter_map(|entry| release(entry.unwrap().path()))
        .collect()
}

/// After the kill, the host has one whole release, and `verify` names the interruption and nothing else.
#[track_caller]
fn is_half_way(host: &Host, boundary: &str) {
    // Between two renames, no agent runs that could use one old and one new file.
    let loaded = host.launchd.wait(SOON, |_| true).unwrap();
    let mixed = boundary.starts_with("put:");
    assert!(!mixed || loaded.is_empty(), "{boundary}: {loaded:?}");
    assert!(mixed || installed(host).len() <= 1, "{boundary}");
    assert!(
        !(runs(&loaded, "server") && runs(&loaded, "hatch")),
        "{boundary}: {loaded:?}"
    );
    if !NO_JOURNAL.contains(&boundary) {
        let (code, found) = host.run(&["verify"]);
        assert!(
            code != Some(0) && found.contains("was interrupted") && found.contains(": 1 finding"),
            "{boundary}: {found}"
        );
    }
}

/// This release is installed and runs, answers, and has no findings.
#[track_caller]
fn is_whole(host: &Host, release: &str, boundary: &str) {
    assert_eq!(
        installed(host),
        BTreeSet::from([release.to_owned()]),
        "{boundary}"
    );
    host.wait("a model that is ready", |host| {
        host.health()["phase"] == "ready"
    });
    assert_eq!(
        host.ask("What is 2+2? Respond with only the number.")
            .trim(),
        "4"
    );
    let loaded = host.launchd.wait(SOON, |all| {
        runs(all, "server") && runs(all, "guardian") && !runs(all, "hatch")
    });
    assert!(loaded.is_ok(), "{boundary}");
    host.must(&["verify"]);
}

#[test]
fn killed_upgrade_is_finished_or_rolled_back_by_the_next_command() {
    let host = host();
    host.install("1");
    let mut here = "1";
    // Only an upgrade checks its servers.
    let checked = [("checked", true), ("post-deploy-checks", true)];
    for (edition, (boundary, switched)) in BOUNDARIES.into_iter().chain(checked).enumerate() {
        let other = if here == "1" { "2" } else { "1" };
        fleet(&host, 1 + edition);
        let upgrade = ["upgrade", "--release", other, "--trial", "never"];
        kill_at(&host, &upgrade, boundary);
        is_half_way(&host, boundary);
        host.must(&["install"]);
        here = if switched { other } else { here };
        is_whole(&host, here, boundary);
    }
}

#[test]
fn killed_rollback_is_finished_or_rolled_back_by_the_next() {
    let host = host();
    host.install("1");
    let mut here = "1";
    // A rollback includes the release's fleet.toml.
    let copy_deployed_fleet =
        || fs::copy(host.path(".sanctum/fleet.toml"), host.path("fleet.toml")).unwrap();
    for (edition, (boundary, _)) in BOUNDARIES.into_iter().enumerate() {
        if here == "1" {
            fleet(&host, 1 + edition);
            host.must(&["upgrade", "--release", "2", "--trial", "never"]);
        }
        kill_at(&host, &["rollback"], boundary);
        is_half_way(&host, boundary);
        // At `done` only the lease is left. A rollback with a journal is rolled back itself; without one, it is repeated.
        if boundary == "done" {
            copy_deployed_fleet();
            host.must(&["install"]);
        } else {
            host.must(&["rollback"]);
            copy_deployed_fleet();
        }
        here = match boundary {
            "lease" | "store" | "staged" | "done" => "1",
            _ => "2",
        };
        is_whole(&host, here, boundary);
    }
}

#[test]
fn killed_first_install_is_finished_by_the_next() {
    let host = host();
    let boundaries = BOUNDARIES.iter().map(|(boundary, _)| *boundary);
    let ours = |boundary: &&str| !boundary.starts_with("bootout:");
    // Only the first installation disables the standby agent.
    for boundary in ["disable:hatch", "active"]
        .into_iter()
        .chain(boundaries.filter(ours))
    {
        kill_at(&host, &Host::installation("1"), boundary);
        is_half_way(&host, boundary);
        host.install("1");
        is_whole(&host, "1", boundary);
        host.must(&["uninstall"]);
    }
}

#[test]
fn killed_switch_to_the_standby_is_rolled_back() {
    let host = host();
    host.install("1");
    for boundary in [
        "disable:server",
        "bootout:server",
        "active",
        "enable:hatch",
        "bootstrap:hatch",
    ] {
        kill_at(&host, &["rollback", "--agent", "hatch"], boundary);
        is_half_way(&host, boundary);
        host.must(&["install"]);
        is_whole(&host, "1", boundary);
    }
}
