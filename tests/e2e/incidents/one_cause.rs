//! A server goes down, and four watchdogs of its host notice it: one cause is one alert.

use std::fs;

use crate::host::{Host, SOON, runs};
use crate::receiver::{Receiver, field};

/// One channel for all, and a guardian that checks more often than the others.
fn watchdogs(phone: &Receiver) -> String {
    format!(
        "[watch.guardian]\ntarget = \"server\"\nevery = \"200ms\"\ntimeout = \"2s\"\nmisses = 3\nstall_after = \"2s\"\n\
         startup_grace = \"10s\"\nalert = [\"phone\"]\n\
         [watch.canary]\ntarget = \"server\"\nevery = \"1s\"\ntimeout = \"2s\"\nmisses = 3\nalert = [\"phone\"]\n\
         [watch.drift]\nevery = \"1s\"\nmisses = 3\nalert = [\"phone\"]\n\
         [watch.parity]\ntarget = \"server\"\nevery = \"1s\"\ntimeout = \"1s\"\nspec = \"parity-smoke.json\"\nalert = [\"phone\"]\n{}",
        phone.section()
    )
}

const AGENTS: [&str; 5] = ["server", "guardian", "canary", "drift", "parity"];

fn installed(phone: &Receiver, server: &str) -> Host {
    let host = Host::new();
    let spec = r#"{"prompts": [{"name": "sum", "prompt": "What is 2+2? Respond with only the number.", "substring": "4"}]}"#;
    fs::write(host.path("parity-smoke.json"), spec).unwrap();
    host.release_of_scripts("1", server);
    host.fleet(&AGENTS, "", &watchdogs(phone));
    host.install("1");
    host.all_well(&AGENTS[1..]);
    host
}

fn told(phone: &Receiver) -> Vec<String> {
    let titles = phone
        .taken()
        .into_iter()
        .map(|alert| field(&alert, "title"));
    titles
        .filter(|title| !title.contains("short of memory"))
        .collect()
}

/// Waits until every other watchdog has had enough misses to alert.
fn others_miss(host: &Host) {
    host.wait("misses of everyone", |host| {
        AGENTS[2..]
            .iter()
            .all(|agent| host.memory(agent)["misses"].as_u64() >= Some(4))
    });
}

#[test]
fn server_that_crashes_at_every_start_is_one_alert_with_its_last_error() {
    let phone = Receiver::new();
    let last_error = "the weights of layer 7 are missing; copy the model again";
    let host = installed(
        &phone,
        &format!(
            "[ -e \"$HOME/broken\" ] && {{ echo 'ERROR: {last_error}' >&2; exit 3; }}\nexec \"$SERVER\" \"$@\""
        ),
    );
    fs::write(host.path("broken"), "").unwrap();
    host.signal("server", "SIGKILL");
    let alert = &phone.wait("server on here crashes at every start", 1)[0];
    assert!(field(alert, "body").contains(last_error), "{alert}");
    others_miss(&host);
    assert_eq!(told(&phone), ["server on here crashes at every start"]);

    fs::remove_file(host.path("broken")).unwrap();
    phone.wait("recovered: server on here crashes at every start", 1);
    host.all_well(&AGENTS[1..]);
    assert_eq!(told(&phone).len(), 2, "{:?}", told(&phone));
}

#[test]
fn outage_while_the_guardian_is_stopped_alerts_through_the_others() {
    let phone = Receiver::new();
    let host = installed(&phone, "exec \"$SERVER\" \"$@\"");
    for agent in ["guardian", "server"] {
        let target = host.target(agent);
        host.launchd.run(&["bootout", &target]).unwrap();
        // The guardian's last verdict is ok.
        let gone = |all: &[_]| !runs(all, agent);
        host.launchd.wait(SOON, gone).unwrap();
    }
    phone.wait("server on here fails its check", 1);
    phone.wait("the answers of server on here could not be checked", 1);
    phone.wait("the installation on here fails its check", 1);
}
