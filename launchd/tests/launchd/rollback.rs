//! Switching to a standby agent and back.

use std::fs;

use crate::host::Host;

#[test]
fn rollback_to_standby_without_heartbeat_succeeds() {
    for health in [
        "200 {\"status\":\"ok\"}",
        "200 <!doctype html>",
        "200",
        "404",
        "close",
    ] {
        let host = Host::new();
        host.install("1").ok();
        fs::write(host.home().join("bin/other-health"), health).unwrap();
        let said = host
            .run(&["rollback", "--agent", "hatch", "--patience", "20"])
            .ok();
        assert!(said.contains("`hatch` serves now"), "{health}: {said}");
        let said = host.run(&["status"]).ok();
        assert!(said.contains("served by hatch: ready"), "{health}: {said}");
    }
}

#[test]
fn rollback_switches_to_the_standby_and_back() {
    let host = Host::new();
    host.install("1").ok();
    host.calls();
    host.run(&["rollback", "--agent", "hatch"]).ok();
    assert_eq!(
        host.calls(),
        [
            "disable server",
            "bootout server",
            "enable hatch",
            "bootstrap hatch"
        ]
    );
    assert_eq!(host.record("active.json")["server"], "hatch");
    assert!(host.is_loaded("hatch") && !host.is_loaded("server"));
    assert!(host.is_disabled("server") && !host.is_disabled("hatch"));
    assert_eq!(host.findings(), [""; 0]);
    // An install keeps the standby agent active.
    assert!(host.install("1").ok().contains("nothing to do"));
    host.run(&["rollback", "--agent", "server"]).ok();
    host.is_whole("1");
    assert!(host.is_disabled("hatch") && !host.is_disabled("server"));
    let said = host.run(&["rollback", "--agent", "guardian"]).fails(1);
    assert!(
        said.contains("on this host, use one of server, hatch"),
        "{said}"
    );
}

#[test]
fn rollback_to_missing_standby_program_is_refused() {
    let host = Host::new();
    host.fleet("");
    let text = fs::read_to_string(host.at("fleet.toml")).unwrap();
    fs::write(
        host.at("fleet.toml"),
        text.replace("/bin/sleep", "/no/such/hatch"),
    )
    .unwrap();
    host.install("1").ok();
    host.calls();
    let said = host.run(&["rollback", "--agent", "hatch"]).fails(1);
    assert!(
        said.contains("`hatch` runs /no/such/hatch, which does not exist; nothing was changed"),
        "{said}"
    );
    assert_eq!(host.calls(), [""; 0]);
    host.is_whole("1");
}
