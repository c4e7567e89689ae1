//! A server goes down, and four watchdogs of its host notice it: one cause is one alert.

use std::fs;

use sanctum_tests::{SCALES, flip_a_bit};

use super::wrong::exported;
use crate::host::{Host, SOON, runs};
use crate::receiver::{Receiver, field};

/// One channel for all, and a guardian that checks more often than the others. `patience` is how long canary and parity wait
/// for an answer.
fn watchdogs(phone: &Receiver, patience: &str) -> String {
    format!(
        "[watch.guardian]\ntarget = \"server\"\nevery = \"200ms\"\ntimeout = \"2s\"\nmisses = 3\nstall_after = \"2s\"\n\
         startup_grace = \"10s\"\nalert = [\"phone\"]\n\
         [watch.canary]\ntarget = \"server\"\nevery = \"1s\"\ntimeout = \"{patience}\"\nmisses = 3\nalert = [\"phone\"]\n\
         [watch.drift]\nevery = \"1s\"\nmisses = 3\nalert = [\"phone\"]\n\
         [watch.parity]\ntarget = \"server\"\nevery = \"1s\"\ntimeout = \"{patience}\"\nspec = \"parity-smoke.json\"\nmax_failures = 0\n\
         alert = [\"phone\"]\n{}",
        phone.section()
    )
}

const AGENTS: [&str; 5] = ["server", "guardian", "canary", "drift", "parity"];

fn installed(phone: &Receiver, server: &str) -> Host {
    let host = Host::new();
    install(&host, phone, server, "", "1s");
    host
}

fn install(host: &Host, phone: &Receiver, server: &str, section: &str, patience: &str) {
    let spec = r#"{"prompts": [{"name": "sum", "prompt": "What is 2+2? Respond with only the number.", "substring": "4"}]}"#;
    fs::write(host.path("parity-smoke.json"), spec).unwrap();
    host.release_of_scripts("1", server);
    host.fleet(&AGENTS, section, &watchdogs(phone, patience));
    host.install("1");
    host.all_well(&AGENTS[1..]);
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

#[test]
fn server_that_is_killed_and_comes_back_is_no_alert() {
    let phone = Receiver::new();
    let host = Host::new();
    install(&host, &phone, "exec \"$SERVER\" \"$@\"", "", "5s");
    let before = host.running("server");
    host.signal("server", "SIGKILL");
    let back = |status: &sanctum_sim_launchd::wire::Status| {
        status.pid.is_some() && status.pid != before.pid
    };
    host.launchd
        .wait_for("com.sanctum.server", SOON, back)
        .unwrap();
    for agent in &AGENTS[1..] {
        host.look_on(agent, 2);
    }
    host.all_well(&AGENTS[1..]);
    assert_eq!((told(&phone), host.restarts()), (Vec::new(), 0));
}

#[test]
fn server_that_is_frozen_is_one_alert_and_its_end() {
    let phone = Receiver::new();
    let host = Host::new();
    // The guardian decides before the others have waited for their answers.
    install(&host, &phone, "exec \"$SERVER\" \"$@\"", "", "15s");
    host.signal("server", "SIGSTOP");
    // What is logged after the last good answer belongs to the outage.
    host.wait("a miss", |host| {
        host.verdict("guardian").starts_with("miss:")
    });
    let last_error = "the GPU does not answer";
    log_error(&host, last_error);
    let restarted = "server on here was restarted";
    let alert = &phone.wait(restarted, 1)[0];
    let body = field(alert, "body");
    assert!(
        body.contains("The last error in its log: ") && body.contains(last_error),
        "{body}"
    );
    phone.wait(&format!("recovered: {restarted}"), 1);
    host.all_well(&AGENTS[1..]);
    assert_eq!(
        told(&phone),
        [restarted, &format!("recovered: {restarted}")]
    );
}

#[test]
fn wrong_answers_are_one_alert_with_the_last_error_of_the_server() {
    let phone = Receiver::new();
    let host = Host::new();
    exported(&host);
    let model = "models = [{ id = \"council\", path = \"~/model\" }]";
    install(&host, &phone, "exec \"$SERVER\" \"$@\"", model, "30s");
    flip_a_bit(&host.path("model"), SCALES);
    let server = host.target("server");
    host.launchd.run(&["kickstart", "-k", &server]).unwrap();
    let last_error = "a tensor has a value out of range";
    log_error(&host, last_error);
    host.wait("misses of both", |host| {
        let misses = |agent| host.memory(agent)["misses"].as_u64();
        misses("canary") >= Some(4) && misses("parity") >= Some(4)
    });
    phone.wait("its check", 1);
    // Whichever of the two found it first.
    let told = told(&phone);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("its check"), "{told:?}");
    let body = field(&phone.titled("its check")[0], "body");
    assert!(
        body.contains(&format!(". The last error in its log: {last_error}")),
        "{body}"
    );
    let said = host.must(&["alert", "list"]);
    assert!(said.contains("the same cause: "), "{said}");
}

/// Adds an error to the log of the server, as the server itself would.
fn log_error(host: &Host, message: &str) {
    let now = time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let line =
        format!("{{\"timestamp\":\"{now}\",\"level\":\"ERROR\",\"message\":\"{message}\"}}\n");
    let log = host.path(".sanctum/logs/server.log");
    let mut log = fs::OpenOptions::new().append(true).open(log).unwrap();
    std::io::Write::write_all(&mut log, line.as_bytes()).unwrap();
}
