//! An engine that makes no progress while HTTP still answers: a check that only connects does not notice it.

use std::fs;

use crate::host::Host;
use crate::receiver::{Receiver, field};

#[test]
fn hang_loop_spends_the_restart_budget_and_an_install_restores_it() {
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
         [watch.canary]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"1s\"\nmisses = 2\nalert = [\"phone\"]\n{}",
        phone.section()
    );
    host.fleet(&["server", "guardian", "canary"], "", &watchdogs);
    host.install("1");
    host.all_well(&["guardian", "canary"]);

    // The canary's next question is the last one that this engine accepts, and that of each engine after it.
    fs::write(&ice, "").unwrap();
    let restarts = phone.wait("server on here was restarted", 1);
    let why = field(&restarts[0], "body");
    assert!(
        why.contains("answers, but its engine has work and has made no progress"),
        "{why}"
    );
    assert!(why.contains("launchctl kickstart -k"), "{why}");
    let calls = phone.wait("needs attention", 1);
    let said = field(&calls[0], "body");
    assert!(said.contains("2 restarts did not help"), "{said}");

    // It answers all the time, and the guardian does nothing more. Two facts, two alerts: it was restarted, and it needs attention.
    assert_eq!(host.health()["status"], "ok");
    host.look_on("guardian", 10);
    let told = || {
        let titles = (phone.taken().iter())
            .map(|alert| field(alert, "title"))
            .collect::<Vec<_>>();
        let of_server = |title: &String| !title.contains("short of memory");
        titles.into_iter().filter(of_server).collect::<Vec<_>>()
    };
    let restarted = "server on here was restarted";
    let spent = "server on here needs attention";
    assert_eq!(told(), [restarted, spent]);
    assert_eq!(host.restarts(), BUDGET);
    let server = host.running("server");
    assert_eq!(server.runs as usize, 1 + BUDGET);

    // The cause of the hang is gone: the outage is over, and the verdict says that the budget is still spent.
    fs::remove_file(&ice).unwrap();
    let recovered = phone.wait(&format!("recovered: {restarted}"), 1);
    let id = field(&recovered[0], "id");
    assert_eq!(id, format!("{}-recovered", field(&restarts[0], "id")));
    host.all_well(&["guardian", "canary"]);
    assert!(
        host.verdict("guardian")
            .contains("its restart budget is spent")
    );
    assert_eq!(host.running("server"), server);
    assert_eq!(host.restarts(), BUDGET);

    // An install that finds nothing to do restores the budget too.
    host.install("1");
    let recovered = phone.wait(&format!("recovered: {spent}"), 1);
    let id = field(&recovered[0], "id");
    assert_eq!(id, format!("{}-recovered", field(&calls[0], "id")));
    fs::write(&ice, "").unwrap();
    host.wait("another restart", |host| host.restarts() > BUDGET);
    fs::remove_file(&ice).unwrap();
}
