//! `alert test`: a real alert through a real receiver of each kind, and the fix for each failure.

use serde_json::Value;

use super::http_receiver::HttpReceiver;
use super::mail_server::{MailServer, MailTls, secret};
use crate::host::Host;

/// Nothing is installed, so the command line says which host this is.
const TEST: [&str; 6] = ["alert", "test", "--config", "fleet.toml", "--host", "here"];

/// A host with these channels, all used by its canary. Nothing is installed.
fn host_with(host: &Host, names: &[&str], sections: &str) {
    let canary = format!(
        "[watch.canary]\ntarget = \"server\"\nevery = \"1s\"\nalert = {names:?}\n{sections}"
    );
    host.fleet(&["server", "canary"], "", &canary);
}

fn json(host: &Host, arguments: &[&str]) -> Value {
    let line = [arguments, &["--json"]].concat();
    let output = host.command(&line).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn test_alert_reaches_every_http_channel_with_its_exact_body() {
    let host = Host::new();
    let (flow, chat, push) = (
        HttpReceiver::new(),
        HttpReceiver::new(),
        HttpReceiver::ntfy(),
    );
    secret(
        &host.path("chat.url"),
        &format!("http://127.0.0.1:{}/services/hook-secret", chat.port()),
    );
    secret(&host.path("push.token"), "tk_secret");
    let sections = format!(
        "[alerts.flow]\nurl = \"http://127.0.0.1:{}/notify\"\n\
         [alerts.chat]\nkind = \"webhook\"\nurl_file = \"~/chat.url\"\n\
         template = '{{\"text\": \"{{{{severity}}}}: {{{{title|html}}}}\", \"host\": \"{{{{host}}}}\"}}'\n\
         [alerts.push]\nkind = \"ntfy\"\nurl = \"http://127.0.0.1:{}/fleet-7Hq\"\ntoken_file = \"~/push.token\"\n\
         [alerts.log]\n[alerts.unused]\nurl = \"http://127.0.0.1:9/\"\n",
        flow.port(),
        push.port()
    );
    host_with(&host, &["flow", "chat", "push", "log"], &sections);
    let said = host.must(&TEST);
    for name in ["flow", "chat", "push"] {
        assert!(said.contains(&format!("{name}: delivered\n")), "{said}");
    }
    assert!(
        said.contains("log: nothing to send") && !said.contains("unused"),
        "{said}"
    );

    let body = |receiver: &HttpReceiver| -> Value {
        let accepted = receiver.accepted();
        assert_eq!(accepted.len(), 1, "{accepted:?}");
        serde_json::from_str(&accepted[0].body).unwrap()
    };
    let alert = body(&flow);
    assert_eq!(alert["title"], "test alert from here");
    assert_eq!(
        (&alert["severity"], &alert["host"]),
        (&"info".into(), &"here".into())
    );
    assert_eq!(
        body(&chat),
        serde_json::json!({ "text": "info: test alert from here", "host": "here" })
    );
    assert_eq!(chat.accepted()[0].path, "/services/hook-secret");
    let pushed = body(&push);
    assert_eq!(
        (&pushed["topic"], &pushed["priority"]),
        (&"fleet-7Hq".into(), &3.into())
    );
    assert_eq!(push.accepted()[0].token, "Bearer tk_secret");
}

#[test]
fn channel_that_fails_its_test_is_reported_with_the_fix_and_no_secret() {
    let host = Host::new();
    let push = HttpReceiver::ntfy();
    secret(&host.path("push.token"), "tk_wrong");
    secret(
        &host.path("chat.url"),
        "http://127.0.0.1:9/services/hook-secret",
    );
    let sections = format!(
        "[alerts.push]\nkind = \"ntfy\"\nurl = \"http://127.0.0.1:{}/fleet-7Hq\"\ntoken_file = \"~/push.token\"\n\
         [alerts.chat]\nurl_file = \"~/chat.url\"\n[alerts.gone]\nurl_file = \"no.url\"\n",
        push.port()
    );
    host_with(&host, &["push", "chat", "gone"], &sections);
    let (code, said) = host.run(&TEST);
    assert_eq!(code, Some(1), "{said}");
    for words in [
        "push: failed: http://127.0.0.1:",
        "forbidden",
        "correct `token_file`",
        "chat: failed: http://127.0.0.1:9 (its address is in ",
        "cannot be reached",
        "gone: failed: cannot read the address in ",
        "no.url",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    for secret in ["hook-secret", "tk_wrong", "fleet-7Hq"] {
        assert!(!said.contains(secret), "{secret} is in {said}");
    }
    let page = json(
        &host,
        &[
            "alert",
            "test",
            "push",
            "--config",
            "fleet.toml",
            "--host",
            "here",
        ],
    );
    assert_eq!(page["channels"][0]["channel"], "push");
    assert!(
        page["channels"][0]["error"]
            .as_str()
            .unwrap()
            .contains("forbidden")
    );
    // `check` warns about the file that is missing.
    let said = host.must(&["check", "--config", "fleet.toml"]);
    assert!(
        said.contains("[alerts.gone]: the `url_file`") && said.contains("is missing"),
        "{said}"
    );
    assert!(!said.contains("[alerts.chat]: the `url_file`"), "{said}");
}

#[test]
fn mail_is_delivered_over_implicit_tls_and_starttls() {
    for tls in [MailTls::Implicit, MailTls::Starttls] {
        let host = Host::new();
        let Some(server) = MailServer::start(&host.path(""), tls) else {
            return;
        };
        host_with(&host, &["mail"], &server.section(""));
        host.must(&TEST);
        let mail = &server.wait(1)[0];
        assert_eq!(mail["from"], "sanctum@example.com", "{tls:?}");
        assert_eq!(mail["to"], serde_json::json!(["oncall@example.com"]));
        assert_eq!(mail["headers"]["Subject"], "[info] test alert from here");
        assert_eq!(mail["headers"]["Auto-Submitted"], "auto-generated");
        let id = mail["headers"]["Message-ID"].as_str().unwrap();
        assert!(
            id.starts_with("<test-") && id.ends_with("@here.sanctum.invalid>"),
            "{id}"
        );
        let text = mail["text"].as_str().unwrap();
        assert!(text.contains("Nothing is wrong"), "{text}");
    }
}

#[test]
fn mail_that_is_refused_is_reported_with_the_step_and_its_fix() {
    let host = Host::new();
    let Some(server) = MailServer::start(&host.path(""), MailTls::Starttls) else {
        return;
    };
    let good = server.section("");
    let port = |section: &str| section.replace("tls = \"starttls\"", "tls = \"implicit\"");
    secret(&host.path("other.password"), "wrong-secret");
    for (section, words) in [
        (
            good.replace("smtp.password", "other.password"),
            "does not accept the user",
        ),
        (
            good.replace("oncall@", "refused@"),
            "does not accept the recipient refused@example.com",
        ),
        // TLS from the first byte at a port that begins without.
        (port(&good), "587 needs tls = \"starttls\""),
        // The system's authorities have not signed its certificate, and that name is not in it.
        (
            good.lines()
                .filter(|line| !line.starts_with("ca_file"))
                .collect::<Vec<_>>()
                .join("\n"),
            "`ca_file`",
        ),
        (
            good.replace("server = \"localhost", "server = \"127.0.0.1"),
            "the name in the server's certificate",
        ),
    ] {
        host_with(&host, &["mail"], &section);
        let (code, said) = host.run(&TEST);
        assert!(
            code == Some(1) && said.contains(words),
            "{words:?} is not in {said}"
        );
        assert!(
            !said.contains("wrong-secret") && !said.contains("smtp-secret"),
            "{said}"
        );
    }
}
