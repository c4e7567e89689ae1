//! Every kind of channel is down during an outage: each receives its alerts in order when it is up again, and none waits for
//! another one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::http_receiver::HttpReceiver;
use super::mail_server::{MailServer, MailTls, secret};
use crate::host::{Host, SOON, label, runs};

/// Kills the watchdog, which then tries all channels at once instead of after their pauses.
fn restart_canary(host: &Host) {
    let before = host.running("canary");
    host.signal("canary", "SIGKILL");
    host.launchd
        .wait_for(&label("canary"), SOON, |s| {
            s.pid.is_some() && s.pid != before.pid
        })
        .unwrap();
}

fn field(text: &str, name: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    value[name].as_str().unwrap_or_default().to_owned()
}

#[test]
fn each_channel_receives_its_alerts_in_order_after_its_own_outage() {
    let host = Host::new();
    let Some(mut mail) = MailServer::start(&host.path(""), MailTls::Implicit) else {
        return;
    };
    let (hook, chat, push) = (
        HttpReceiver::new(),
        HttpReceiver::new(),
        HttpReceiver::ntfy(),
    );
    let address = |port: u16, path: &str| format!("http://127.0.0.1:{port}/{path}");
    secret(
        &host.path("chat.url"),
        &address(chat.port(), "services/hook-secret"),
    );
    secret(
        &host.path("push.url"),
        &address(push.port(), "topic-secret"),
    );
    secret(&host.path("push.token"), "tk_secret");
    let sections = format!(
        "[watch.canary]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"1s\"\nmisses = 2\n\
         alert = [\"hook\", \"chat\", \"push\", \"mail\"]\n[alerts.hook]\nurl = \"{}\"\n\
         [alerts.chat]\nurl_file = \"~/chat.url\"\ntemplate = '{{\"text\": \"{{{{title}}}}\", \"id\": \"{{{{id}}}}\"}}'\n\
         [alerts.push]\nkind = \"ntfy\"\nurl_file = \"~/push.url\"\ntoken_file = \"~/push.token\"\n{}",
        address(hook.port(), "notify"),
        mail.section("")
    );
    host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
    host.fleet(&["server", "canary"], "", &sections);
    host.install("1");
    host.all_well(&["canary"]);

    for receiver in [&hook, &chat, &push] {
        receiver.set_down(true);
    }
    mail.pause();
    for outage in 1..=2 {
        let server = host.target("server");
        host.launchd.run(&["bootout", &server]).unwrap();
        host.wait("misses", |host| {
            host.memory("canary")["open"]["misses"].is_object()
        });
        host.launchd.wait(SOON, |all| !runs(all, "server")).unwrap();
        let plist = host.path("Library/LaunchAgents/com.sanctum.server.plist");
        let line = ["bootstrap", &host.launchd.domain(), plist.to_str().unwrap()];
        assert_eq!(host.launchd.run(&line).unwrap().code, 0, "outage {outage}");
        host.all_well(&["canary"]);
    }
    let said = host.must(&["alert", "list"]);
    for words in [
        "not delivered to mail: the mail server localhost:",
        "not delivered to push: http://127.0.0.1:",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }

    // One after the other is up again.
    let fails = "server on here fails its check";
    let recovered = format!("recovered: {fails}");
    let expected = [fails, &recovered, fails, &recovered];
    push.set_down(false);
    restart_canary(&host);
    let pushed = push.wait(4, |_| true);
    let titles: Vec<String> = pushed
        .iter()
        .map(|request| field(&request.body, "title"))
        .collect();
    assert_eq!(titles, expected);
    assert!(hook.accepted().is_empty() && chat.accepted().is_empty() && mail.accepted().is_empty());

    mail.resume();
    restart_canary(&host);
    let mails = mail.wait(4);
    let titles: Vec<String> = mails
        .iter()
        .map(|mail| mail["headers"]["Subject"].as_str().unwrap().to_owned())
        .collect();
    let subjects = ["critical", "info", "critical", "info"]
        .iter()
        .zip(expected);
    let subjects: Vec<String> = subjects
        .map(|(severity, title)| format!("[{severity}] {title}"))
        .collect();
    assert_eq!(titles, subjects);
    assert!(hook.accepted().is_empty() && chat.accepted().is_empty());

    hook.set_down(false);
    chat.set_down(false);
    restart_canary(&host);
    for (receiver, title) in [(&hook, "title"), (&chat, "text")] {
        let requests = receiver.wait(4, |_| true);
        let titles: Vec<String> = requests
            .iter()
            .map(|request| field(&request.body, title))
            .collect();
        assert_eq!(titles, expected);
        let ids: BTreeSet<String> = requests
            .iter()
            .map(|request| field(&request.body, "id"))
            .collect();
        assert_eq!(ids.len(), 4, "{ids:?}");
    }
    host.wait("an empty spool", |host| {
        let spool = fs::read_dir(host.path(".sanctum/state/spool/canary"));
        spool.is_ok_and(|mut left| left.next().is_none())
    });
    assert_eq!(
        (push.accepted().len(), mail.accepted().len()),
        (4, 4),
        "each once"
    );
    let said = host.must(&["alert", "list"]);
    assert!(
        said.contains("delivered to chat, hook, mail, push"),
        "{said}"
    );

    // The secrets are in their own files only.
    let secrets = ["hook-secret", "topic-secret", "tk_secret", "smtp-secret"];
    for folder in [".sanctum", "Library"] {
        has_none(&host.path(folder), &secrets);
    }
}

/// Checks that no file under a folder has one of these texts in it.
fn has_none(folder: &Path, secrets: &[&str]) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            has_none(&path, secrets);
            continue;
        }
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {}", path.display());
        }
    }
}
