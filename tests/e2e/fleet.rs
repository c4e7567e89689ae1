//! A host from installation to removal under the simulated launchd, with the real programs.

use std::fs;

use crate::host::{Host, SOON, label, modified};

const AGENTS: [&str; 3] = ["server", "guardian", "canary"];

const WATCHDOGS: &str = r#"
[watch.guardian]
target = "server"
every = "1s"
timeout = "1s"
misses = 3
startup_grace = "5s"
restarts_per_hour = 2
alert = ["log"]
[watch.canary]
target = "server"
every = "1s"
misses = 2
alert = ["log"]
[alerts.log]
"#;

#[test]
fn installed_fleet_is_kept_running_and_verified() {
    let host = Host::new();
    host.release("0.1.0");
    host.fleet(&AGENTS, "", WATCHDOGS);
    host.install("0.1.0");
    let launchd = &host.launchd;
    let all_well = || host.all_well(&["guardian", "canary"]);
    all_well();

    // A second install writes nothing and restarts no agent.
    let places = ["Library/LaunchAgents", ".sanctum/bin"].map(|place| host.path(place));
    let before = places.each_ref().map(|place| modified(place));
    let pid = host.running("server").pid;
    host.install("0.1.0");
    assert_eq!(places.each_ref().map(|place| modified(place)), before);
    assert_eq!(host.running("server").pid, pid);
    host.must(&["verify"]);

    // Killed: launchd restarts it, and the guardian does nothing.
    host.signal("server", "SIGKILL");
    launchd
        .wait_for(&label("server"), SOON, |s| s.runs == 2 && s.pid.is_some())
        .unwrap();
    all_well();
    assert_eq!(host.restarts(), 0);

    // Stopped (SIGSTOP): launchd does not notice, so the guardian restarts it.
    let stopped = host.running("server");
    host.signal("server", "SIGSTOP");
    let restarted = launchd
        .wait_for(&label("server"), SOON, |s| {
            s.pid.is_some() && s.pid != stopped.pid
        })
        .unwrap();
    assert_eq!(
        restarted.last_signal,
        Some(9),
        "a stopped process does not handle SIGTERM"
    );
    all_well();
    let log = host.log("guardian");
    assert!(log.contains("server on here was restarted"), "{log}");
    assert!(log.contains("launchctl kickstart -k"), "{log}");

    // Edited by hand: verify names the file and the fix.
    let plist = host.path("Library/LaunchAgents/com.sanctum.canary.plist");
    let text = fs::read_to_string(&plist).unwrap();
    fs::write(&plist, text.replace("<true/>", "<false/>")).unwrap();
    let (code, said) = host.run(&["verify"]);
    assert!(
        code != Some(0) && said.contains("com.sanctum.canary.plist"),
        "{said}"
    );

    host.must(&["uninstall"]);
    launchd.wait(SOON, |all| all.is_empty()).unwrap();
}
