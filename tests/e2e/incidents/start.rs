//! Servers that do not come up: one that exits at each start, and one that loads slowly.

use std::fs;

use crate::host::{Host, SOON, label, said};
use crate::receiver::{Receiver, field};

#[test]
fn server_that_exits_at_each_start_alerts_once_and_is_not_restarted() {
    let phone = Receiver::new();
    let host = Host::new();
    let last_word = "ERROR: the weights of layer 7 are missing; copy the model again";
    host.release_of_scripts("1", &format!("echo '{last_word}' >&2\nexit 3"));
    let guardian = format!(
        "[watch.guardian]\ntarget = \"server\"\nevery = \"500ms\"\ntimeout = \"2s\"\nmisses = 3\nstartup_grace = \"10s\"\n\
         alert = [\"phone\"]\n{}",
        phone.section()
    );
    host.fleet(&["server", "guardian"], "", &guardian);
    host.install("1");
    let alert = &phone.wait("server on here crashes at every start", 1)[0];
    let body = field(alert, "body");
    assert!(
        body.contains(last_word) && body.contains("tail -n 50"),
        "{body}"
    );
    // launchd continues to start it, the guardian continues to check, and there is no second alert.
    let runs = || {
        let find = |all: &[sanctum_sim_launchd::wire::Status]| {
            let server = all.iter().find(|status| status.label == label("server"));
            server.map(|status| status.runs)
        };
        find(&host.launchd.wait(SOON, |all| find(all).is_some()).unwrap()).unwrap()
    };
    let before = runs();
    host.look_on("guardian", 10);
    host.wait("further starts", |_| runs() > before + 3);
    let titles: Vec<String> = (phone.taken().iter())
        .map(|alert| field(alert, "title"))
        .filter(|title| !title.contains("short of memory"))
        .collect();
    assert_eq!(titles, ["server on here crashes at every start"]);
    assert_eq!(host.restarts(), 0);
}

/// A file stands for the minute that a large model takes to load: while it exists, the load makes no progress, for longer
/// than every limit of the guardian.
#[test]
fn slow_load_is_left_alone() {
    let host = Host::new();
    let ice = host.path("ice");
    let path = ice.display().to_string();
    let setenv = ["setenv", "SANCTUM_FREEZE_LOAD", &path];
    host.launchd.run(&setenv).unwrap();
    for version in ["1", "2"] {
        host.release_of_scripts(version, "exec \"$SERVER\" \"$@\"");
    }
    // Without the grace it would act after two seconds.
    host.fleet(
        &["server", "guardian"],
        "",
        "[watch.guardian]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"1s\"\nmisses = 2\nstall_after = \"2s\"\n\
         startup_grace = \"2m\"\nalert = [\"log\"]\n[alerts.log]",
    );
    host.install("1");
    host.all_well(&["guardian"]);

    // During an upgrade the lease pauses all watchdogs.
    fs::write(&ice, "").unwrap();
    let upgrade = ["upgrade", "--release", "2", "--trial", "never"];
    let upgrade = host
        .command(&upgrade)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    host.wait("a load", |host| host.health()["phase"] == "loading");
    let pauses = |host: &Host| host.log("guardian").matches("paused until").count();
    let (begun, before) = (std::time::Instant::now(), pauses(&host));
    host.wait("three of the guardian's windows", |host| {
        pauses(host) > before + 3 && begun.elapsed().as_secs() > 6
    });
    let health = host.health();
    assert_eq!(health["phase"], "loading", "{health}");
    assert!(health["progress_age_seconds"].as_f64() > Some(6.0));
    fs::remove_file(&ice).unwrap();
    let (code, text) = said(upgrade.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    host.all_well(&["guardian"]);
    assert_eq!((host.restarts(), host.running("server").runs), (0, 1));

    // Without a lease, after a crash: a young process has its grace.
    fs::write(&ice, "").unwrap();
    host.signal("server", "SIGKILL");
    host.wait("a guardian that waits", |host| {
        host.verdict("guardian").contains("is loading its model")
    });
    let begun = std::time::Instant::now();
    while begun.elapsed().as_secs() < 6 {
        host.look_on("guardian", 3);
    }
    assert_eq!(
        host.verdict("guardian"),
        "busy: server is loading its model"
    );
    fs::remove_file(&ice).unwrap();
    host.wait("a model that is ready", |host| {
        host.health()["phase"] == "ready"
    });
    host.all_well(&["guardian"]);
    assert_eq!((host.restarts(), host.running("server").runs), (0, 2));
}
