//! The escape hatch: another program serves in the server's place, and the watchdogs follow.

use crate::host::{Host, SOON, label, runs};

#[test]
fn guardian_follows_the_active_agent_and_a_login_starts_only_that_one() {
    let host = Host::new();
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    let server = sanctum_tests::program("sanctum-server");
    let sections = format!(
        "[agents.hatch]\nhost = \"here\"\nstandby_for = \"server\"\n\
         program = [{:?}, \"--port\", \"{}\", \"--threads\", \"1\"]\n\
         [watch.guardian]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"1s\"\nmisses = 3\nstall_after = \"5s\"\n\
         startup_grace = \"2s\"\nalert = [\"log\"]\n[alerts.log]",
        server.display(),
        host.port()
    );
    host.fleet(&["server", "guardian"], "", &sections);
    host.install("1");
    host.all_well(&["guardian"]);
    // The standby is installed and does not run.
    let only_the_hatch = |all: &[_]| runs(all, "hatch") && !runs(all, "server");
    let only_the_server = |all: &[_]| runs(all, "server") && !runs(all, "hatch");
    host.launchd.wait(SOON, only_the_server).unwrap();
    assert!(
        host.path("Library/LaunchAgents/com.sanctum.hatch.plist")
            .exists()
    );

    let said = host.must(&["rollback", "--agent", "hatch"]);
    assert!(said.contains("`hatch` serves now"), "{said}");
    host.launchd.wait(SOON, only_the_hatch).unwrap();
    host.wait("a guardian that follows", |host| {
        host.verdict("guardian").starts_with("ok: hatch answers")
    });

    // The standby is killed: the guardian restarts the standby.
    let stopped = host.running("hatch");
    host.signal("hatch", "SIGSTOP");
    host.launchd
        .wait_for(&label("hatch"), SOON, |s| {
            s.pid.is_some() && s.pid != stopped.pid
        })
        .unwrap();
    let restart = format!("Executed: launchctl kickstart -k {}", host.target("hatch"));
    host.wait("the guardian's word", |host| {
        host.log("guardian").contains(&restart)
    });
    assert_eq!(host.restarts(), 1);

    // Logout and login: launchd starts all agents that are not disabled.
    host.launchd.login().unwrap();
    let session = host
        .launchd
        .wait(SOON, |all| only_the_hatch(all) && runs(all, "guardian"));
    let loaded = session.unwrap();
    assert!(
        !loaded.iter().any(|status| status.label == label("server")),
        "{loaded:?}"
    );
    host.look_on("guardian", 3);
    host.wait("the hatch's answer", |host| {
        host.verdict("guardian").starts_with("ok: hatch answers")
    });
    host.must(&["verify"]);

    // The server again, which a login keeps too.
    host.must(&["rollback", "--agent", "server"]);
    host.launchd.login().unwrap();
    host.launchd
        .wait(SOON, |all| only_the_server(all) && runs(all, "guardian"))
        .unwrap();
    host.look_on("guardian", 3);
    host.wait("the server's answer", |host| {
        host.verdict("guardian").starts_with("ok: server answers")
    });
    assert_eq!(host.restarts(), 1);
}
