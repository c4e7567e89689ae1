//! An engine that stands still while HTTP goes on answering: nothing that only asks whether somebody is there sees it.

use std::fs;

use crate::host::Host;
use crate::receiver::{Receiver, field};

#[test]
fn a_frozen_engine_is_restarted_and_a_hang_loop_ends_with_one_call_for_help() {
    const BUDGET: usize = 2;
    let phone = Receiver::new();
    let host = Host::new();
    let ice = host.path("ice");
    let path = ice.display().to_string();
    let launchd = &host.launchd;
    launchd
        .run(&["setenv", "SANCTUM_FREEZE_ENGINE", &path])
        .unwrap();
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    let watchdogs = format!(
        "[watch.guardian]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"2s\"\nmisses = 3\nstall_after = \"2s\"\n\
         startup_grace = \"30s\"\nrestarts_per_hour = {BUDGET}\nalert = [\"phone\"]\n\
         [watch.canary]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"1s\"\nmisses = 2\nalert = [\"log\"]\n\
         [alerts.log]\n{}",
        phone.section()
    );
    host.fleet(&["server", "guardian", "canary"], "", &watchdogs);
    host.install("1");
    host.all_well(&["guardian", "canary"]);

    // The canary's next question is the last that this engine takes, and so with each that follows.
    fs::write(&ice, "").unwrap();
    let restarts = phone.wait("server on here was restarted", 1);
    let why = field(&restarts[0], "body");
    assert!(
        why.contains("answers, but its engine has work and has not moved"),
        "{why}"
    );
    assert!(why.contains("launchctl kickstart -k"), "{why}");
    let calls = phone.wait("needs a human", 1);
    let said = field(&calls[0], "body");
    assert!(said.contains("restarted 2 times"), "{said}");

    // It answers all the while; the guardian looks on, and is silent.
    assert_eq!(host.health()["status"], "ok");
    host.look_on("guardian", 10);
    assert_eq!(phone.titled("was restarted").len(), BUDGET);
    assert_eq!(phone.titled("needs a human").len(), 1);
    let server = host.running("server");
    assert_eq!(server.runs as usize, 1 + BUDGET);

    // Whatever held it lets go: one "recovered", and nobody touches it.
    fs::remove_file(&ice).unwrap();
    let recovered = phone.wait("recovered: server on here needs a human", 1);
    let id = field(&recovered[0], "id");
    assert_eq!(id, format!("{}-recovered", field(&calls[0], "id")));
    host.all_well(&["guardian", "canary"]);
    assert_eq!(host.running("server"), server);
    assert_eq!(host.restarts(), BUDGET);
}
