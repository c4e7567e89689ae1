//! The dead man's switch of a watchdog, with a service that speaks the pinging API of healthchecks.io.

use std::fs;

use super::http_receiver::{HttpReceiver, ReceivedRequest};
use super::mail_server::secret;
use crate::host::{Host, SOON, runs};

const CHECK: &str = "/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278";

/// GET, HEAD or POST of a known check, or of its failure.
fn pinging_api(request: &ReceivedRequest) -> (u16, String) {
    let is_known = request.path == CHECK || request.path == format!("{CHECK}/fail");
    match (request.method.as_str(), is_known) {
        ("GET" | "HEAD" | "POST", true) => (200, "OK".to_owned()),
        ("GET" | "HEAD" | "POST", false) => (200, "OK (not found)".to_owned()),
        _ => (405, String::new()),
    }
}

#[test]
fn completed_rounds_are_reported_and_failures_too_and_an_outage_of_the_service_delays_nothing() {
    let host = Host::new();
    let service = HttpReceiver::answering(pinging_api);
    let address = format!("http://127.0.0.1:{}{CHECK}\n", service.port());
    secret(&host.path("heartbeat.url"), &address);
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    host.fleet(
        &["server", "canary"],
        "",
        "[watch.canary]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"1s\"\nmisses = 2\nalert = [\"log\"]\n\
         heartbeat_url_file = \"~/heartbeat.url\"\n[alerts.log]",
    );
    host.install("1");
    host.all_well(&["canary"]);
    let is_success = |request: &ReceivedRequest| request.method == "GET" && request.path == CHECK;
    service.wait(2, is_success);
    assert!(service.accepted().iter().all(is_success));

    // A critical condition is open.
    let server = host.target("server");
    host.launchd.run(&["bootout", &server]).unwrap();
    host.launchd.wait(SOON, |all| !runs(all, "server")).unwrap();
    let failures = service.wait(1, |request| request.path == format!("{CHECK}/fail"));
    assert_eq!(
        (failures[0].method.as_str(), failures[0].body.as_str()),
        ("POST", "server on here fails its check")
    );

    // The service is down: rounds go on, and `status` shows it.
    service.set_down(true);
    host.wait("the error in the state", |host| {
        host.memory("canary")["heartbeat_url"]["error"].is_string()
    });
    host.look_on("canary", 3);
    let (_, said) = host.run(&["status"]);
    assert!(said.contains("its heartbeat_url is not accepted"), "{said}");
    let log = host.log("canary");
    assert!(
        log.contains("the heartbeat was not accepted: http://127.0.0.1:"),
        "{log}"
    );
    assert_eq!(
        log.matches("the heartbeat was not accepted").count(),
        1,
        "once, not in every round: {log}"
    );
    service.set_down(false);
    host.wait("the end of the error", |host| {
        host.memory("canary")["heartbeat_url"]["error"].is_null()
    });

    // A check that the service does not know is an error, although it answers 200.
    secret(
        &host.path("heartbeat.url"),
        &address.replace("5bf66975", "00000000"),
    );
    host.wait("the service's answer", |host| {
        let error = host.memory("canary")["heartbeat_url"]["error"].clone();
        error
            .as_str()
            .is_some_and(|error| error.contains("OK (not found)"))
    });
    for file in [
        ".sanctum/logs/canary.log",
        ".sanctum/state/watch/canary.json",
    ] {
        let text = fs::read_to_string(host.path(file)).unwrap();
        assert!(!text.contains("b8d8a82ea278"), "the address is in {file}");
    }
}
