//! Power, a closed lid, `kill -9`: install, upgrade and rollback die at every boundary between two of their steps, and
//! what runs is whole. Faults exist in debug builds only, and so do these tests.

use std::collections::BTreeSet;
use std::fs;

use crate::host::{Host, SOON, runs, said};

/// The boundaries of a change from one release to another with a changed fleet.toml, in order; and whether files have
/// been switched by then.
const BOUNDARIES: [(&str, bool); 14] = [
    ("lease", false),
    ("keep", false),
    ("journal", false),
    ("bootout:server", false),
    ("bootout:guardian", false),
    ("staged", false),
    ("put:sanctum-server", true),
    ("put:fleet.toml", true),
    ("switch", true),
    ("bootstrap:guardian", true),
    ("bootstrap:server", true),
    ("remembered", true),
    ("receipt", true),
    ("done", true),
];

/// No journal is there before or after these.
const NO_JOURNAL: [&str; 3] = ["lease", "keep", "done"];

/// Nothing is installed; releases 1 and 2 lie ready.
fn host() -> Host {
    let host = Host::new();
    for version in ["1", "2"] {
        host.release_of_scripts(version, "exec \"$SERVER\" \"$@\"");
    }
    fleet(&host, 0);
    host
}

/// Writes fleet.toml; each edition is another file.
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

/// A command that dies at a boundary.
#[track_caller]
fn dies(host: &Host, line: &[&str], boundary: &str) {
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
        // What lies ready beside its place is not in it yet.
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

/// What is left behind after a death is whole, and `verify` says what was interrupted.
#[track_caller]
fn is_half_way(host: &Host, boundary: &str) {
    // Between two renames no agent that could run one old and one new file is there.
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
            code != Some(0) && found.contains("was interrupted"),
            "{boundary}: {found}"
        );
    }
}

/// This release is in place, all of it runs, it answers, and nothing is left to find.
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
fn an_upgrade_dies_at_each_boundary_and_the_next_command_finishes_it_or_takes_it_back() {
    let host = host();
    host.install("1");
    let mut here = "1";
    // Only an upgrade asks.
    let asked = [("asked", true), ("post-flight", true)];
    for (edition, (boundary, switched)) in BOUNDARIES.into_iter().chain(asked).enumerate() {
        let other = if here == "1" { "2" } else { "1" };
        fleet(&host, 1 + edition);
        let upgrade = ["upgrade", "--release", other, "--trial", "never"];
        dies(&host, &upgrade, boundary);
        is_half_way(&host, boundary);
        host.must(&["install"]);
        here = if switched { other } else { here };
        is_whole(&host, here, boundary);
    }
}

#[test]
fn a_rollback_dies_at_each_boundary_and_a_rollback_finishes_it_or_takes_it_back() {
    let host = host();
    host.install("1");
    let mut here = "1";
    // The fleet.toml of a release goes with it.
    let take_over_fleet =
        || fs::copy(host.path(".sanctum/fleet.toml"), host.path("fleet.toml")).unwrap();
    for (edition, (boundary, _)) in BOUNDARIES.into_iter().enumerate() {
        if here == "1" {
            fleet(&host, 1 + edition);
            host.must(&["upgrade", "--release", "2", "--trial", "never"]);
        }
        dies(&host, &["rollback"], boundary);
        is_half_way(&host, boundary);
        // Of what was done only the lease is left; what was under way is taken back; where nothing was, it goes back.
        if boundary == "done" {
            take_over_fleet();
            host.must(&["install"]);
        } else {
            host.must(&["rollback"]);
            take_over_fleet();
        }
        here = match boundary {
            "lease" | "keep" | "done" => "1",
            _ => "2",
        };
        is_whole(&host, here, boundary);
    }
}

#[test]
fn a_first_install_dies_at_each_boundary_and_the_next_one_completes_it() {
    let host = host();
    let boundaries = BOUNDARIES.iter().map(|(boundary, _)| *boundary);
    let ours = |boundary: &&str| !boundary.starts_with("bootout:");
    // The standby stays disabled from the first time on.
    for boundary in ["disable:hatch", "active"]
        .into_iter()
        .chain(boundaries.filter(ours))
    {
        dies(&host, &Host::installation("1"), boundary);
        is_half_way(&host, boundary);
        host.install("1");
        is_whole(&host, "1", boundary);
        host.must(&["uninstall"]);
    }
}

#[test]
fn a_flip_dies_at_each_boundary_and_is_taken_back() {
    let host = host();
    host.install("1");
    for boundary in [
        "disable:server",
        "bootout:server",
        "active",
        "enable:hatch",
        "bootstrap:hatch",
    ] {
        dies(&host, &["rollback", "--agent", "hatch"], boundary);
        is_half_way(&host, boundary);
        host.must(&["install"]);
        is_whole(&host, "1", boundary);
    }
}
