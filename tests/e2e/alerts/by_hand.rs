//! What an operator does with an alert: list, mute, unmute and resolve, beside watchdogs that run.

use serde_json::Value;

use crate::host::{Host, SOON, runs};
use crate::receiver::{Receiver, field};

const FAILS: &str = "server on here fails its check";

struct Operator {
    host: Host,
    phone: Receiver,
}

impl Operator {
    fn new() -> Self {
        let phone = Receiver::new();
        let host = phone.host_with_canary();
        Self { host, phone }
    }

    fn begin_outage(&self) {
        let server = self.host.target("server");
        self.host.launchd.run(&["bootout", &server]).unwrap();
        self.host
            .launchd
            .wait(SOON, |all| !runs(all, "server"))
            .unwrap();
        self.host.wait("misses", |host| {
            host.memory("canary")["open"]["misses"].is_object()
        });
    }

    fn end_outage(&self) {
        let plist = self
            .host
            .path("Library/LaunchAgents/com.sanctum.server.plist");
        let line = [
            "bootstrap",
            &self.host.launchd.domain(),
            plist.to_str().unwrap(),
        ];
        assert_eq!(self.host.launchd.run(&line).unwrap().code, 0);
        self.host.all_well(&["canary"]);
        self.host.wait("the end", |host| {
            host.memory("canary")["open"]["misses"].is_null()
        });
    }

    fn open_id(&self) -> String {
        field(&self.host.memory("canary")["open"]["misses"], "id")
    }

    fn list(&self) -> Value {
        let said = self.host.must(&["alert", "list", "--json"]);
        serde_json::from_str(&said).unwrap()
    }

    fn titles(&self) -> Vec<String> {
        self.phone
            .taken()
            .iter()
            .map(|alert| field(alert, "title"))
            .collect()
    }
}

#[test]
fn muted_alert_is_silent_logged_and_listed_until_it_is_unmuted() {
    let operator = Operator::new();
    let Operator { host, phone } = &operator;
    operator.begin_outage();
    phone.wait(FAILS, 1);
    let id = operator.open_id();
    let page = operator.list();
    let open = &page["open"][0];
    assert_eq!(
        (field(open, "id"), field(open, "title")),
        (id.clone(), FAILS.to_owned())
    );
    assert_eq!(open["condition"], "canary/misses");
    host.wait("the delivery in the list", |_| {
        operator.list()["open"][0]["delivered"] == serde_json::json!(["phone"])
    });

    let (code, said) = host.run(&["alert", "mute", "canary-misses-0", "--for", "2h"]);
    assert!(
        code == Some(1) && said.contains("sanctum-launchd alert list"),
        "{said}"
    );
    let said = host.must(&[
        "alert",
        "mute",
        &id,
        "--for",
        "2h",
        "--why",
        "the disk is replaced",
    ]);
    assert!(said.contains("canary/misses is muted until"), "{said}");
    operator.end_outage();
    operator.begin_outage();
    let said = host.must(&["alert", "list"]);
    assert!(said.contains("its condition is muted until"), "{said}");
    assert!(said.contains(": the disk is replaced"), "{said}");
    assert!(said.contains("muted: not sent to phone"), "{said}");
    let log = host.log("canary");
    assert!(
        log.contains(&format!("recovered: {FAILS}")) && log.contains("muted until"),
        "{log}"
    );
    operator.end_outage();
    assert_eq!(operator.titles(), [FAILS]);
    let page = operator.list();
    assert_eq!(page["open"], serde_json::json!([]));
    assert_eq!(page["recent"][0]["silent"], serde_json::json!(["phone"]));
    assert_eq!(page["mutes"][0]["condition"], "canary/misses");

    host.must(&["alert", "unmute", "canary/misses"]);
    let said = host.must(&["alert", "unmute", "canary/misses"]);
    assert!(said.contains("is not muted"), "{said}");
    operator.begin_outage();
    phone.wait(FAILS, 2);
    assert_eq!(operator.titles(), [FAILS, FAILS]);
}

#[test]
fn resolved_alert_is_closed_with_who_and_why_and_opens_again_if_it_recurs() {
    let operator = Operator::new();
    let Operator { host, phone } = &operator;
    operator.begin_outage();
    phone.wait(FAILS, 1);
    let id = operator.open_id();
    let said = host.must(&["alert", "resolve", &id, "--dry-run"]);
    assert!(said.contains("would be asked"), "{said}");
    let resolve = ["alert", "resolve", &id, "--why", "the cable was out"];
    let output = host
        .command(&resolve)
        .env("USER", "ada")
        .env_remove("SUDO_USER")
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("canary has closed"),
        "{said}"
    );
    let closed = &phone.wait(&format!("closed by hand: {FAILS}"), 1)[0];
    let body = field(closed, "body");
    assert!(
        body.starts_with("ada closed it (the cable was out)"),
        "{body}"
    );
    assert_eq!(field(closed, "id"), format!("{id}-resolved"));
    assert!(
        host.log("canary")
            .contains("ada closed it (the cable was out)")
    );
    // The server is still away.
    let again = &phone.wait(FAILS, 3)[2];
    assert_ne!(field(again, "id"), id);
    let (code, said) = host.run(&["alert", "resolve", &id]);
    assert!(code == Some(1) && said.contains("is not open"), "{said}");
}

#[test]
fn resolve_of_a_watchdog_that_does_not_run_waits_for_its_start() {
    let operator = Operator::new();
    let Operator { host, phone } = &operator;
    operator.begin_outage();
    phone.wait(FAILS, 1);
    let id = operator.open_id();
    let canary = host.target("canary");
    host.launchd.run(&["bootout", &canary]).unwrap();
    host.launchd.wait(SOON, |all| !runs(all, "canary")).unwrap();
    let said = host.must(&["alert", "resolve", &id]);
    assert!(
        said.contains("does not run") && said.contains("when it is started"),
        "{said}"
    );
    let said = host.must(&["alert", "list"]);
    assert!(said.contains("an operator has asked to close it"), "{said}");
    let plist = host.path("Library/LaunchAgents/com.sanctum.canary.plist");
    let line = ["bootstrap", &host.launchd.domain(), plist.to_str().unwrap()];
    assert_eq!(host.launchd.run(&line).unwrap().code, 0);
    phone.wait(&format!("closed by hand: {FAILS}"), 1);
}
