//! Servers, messages and deliveries of mail.

use super::*;
use crate::alert::Severity;

fn section(more: &str) -> fleet::ChannelSection {
    let text = format!(
        "[alerts.m]\nkind = \"email\"\nserver = \"smtp.example.com\"\nfrom = \"Sanctum <sanctum@example.com>\"\n\
         to = [\"a@example.com\", \"b@example.com\"]\n{more}"
    );
    let fleet = sanctum_config::Fleet::parse(&text, Path::new("fleet.toml")).unwrap();
    fleet.alerts.into_values().next().unwrap()
}

#[test]
fn server_has_the_port_of_its_encryption_unless_one_is_given() {
    for (text, tls, expected) in [
        (
            "smtp.example.com",
            SmtpTls::Implicit,
            ("smtp.example.com", 465),
        ),
        (
            "smtp.example.com",
            SmtpTls::Starttls,
            ("smtp.example.com", 587),
        ),
        (
            "smtp.example.com:2525",
            SmtpTls::Starttls,
            ("smtp.example.com", 2525),
        ),
        ("127.0.0.1", SmtpTls::None, ("127.0.0.1", 25)),
        ("[::1]:2525", SmtpTls::None, ("::1", 2525)),
    ] {
        let (host, port) = server(text, tls).unwrap();
        assert_eq!((host.as_str(), port), expected);
    }
    for text in [
        "",
        "smtp.example.com/x",
        "a@smtp.example.com",
        "smtp.example.com:99999",
        "smtp.example.com:0",
        "a b",
    ] {
        let error = server(text, SmtpTls::Implicit).unwrap_err();
        assert!(error.contains("is not a host"), "{text}: {error}");
    }
    let error = server("smtp.example.com", SmtpTls::None).unwrap_err();
    assert!(error.contains("in the clear"), "{error}");
}

#[test]
fn address_that_is_none_is_an_error_that_names_its_key() {
    let mut wrong = section("");
    wrong.to = vec!["oncall".to_owned()];
    let error = Email::of(&wrong, Path::new("fleet.toml")).unwrap_err();
    assert!(
        error.contains("`to`: `oncall` is not a mail address"),
        "{error}"
    );
}

#[test]
fn mail_has_the_alert_in_plain_text_with_its_id() {
    let email = Email::of(&section(""), Path::new("fleet.toml")).unwrap();
    let alert = Alert {
        id: "canary-misses-1".into(),
        condition: "canary/misses".into(),
        severity: Severity::Critical,
        source: "canary".into(),
        host: "mini".into(),
        title: "server on mini fails its check".into(),
        body: "asked `2+2`, it answered `5`\nsanctum-launchd verify".into(),
        time: chrono::DateTime::UNIX_EPOCH,
    };
    let mail = email.message(&alert).unwrap();
    let text = String::from_utf8(mail.formatted()).unwrap();
    for line in [
        "Subject: [critical] server on mini fails its check\r\n",
        "Message-ID: <canary-misses-1@mini.sanctum.invalid>\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "To: a@example.com, b@example.com\r\n",
        "Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n",
        "\r\nsanctum-launchd verify\r\n",
        "\r\nid: canary-misses-1\r\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    assert_eq!(mail.envelope().to().len(), 2);
}

fn email(port: u16) -> Email {
    let mut section = section("tls = \"none\"");
    section.server = Some(format!("127.0.0.1:{port}"));
    Email::of(&section, Path::new("fleet.toml")).unwrap()
}

#[tokio::test]
async fn response_of_many_lines_does_not_stop_the_runtime() {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let email = email(listener.local_addr().unwrap().port());
    let is_sent = std::sync::Arc::new(AtomicBool::new(false));
    let sent = std::sync::Arc::clone(&is_sent);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The last line ends the conversation in the same poll in which the others are parsed.
        let greeting = "220-a\r\n".repeat(1500) + "nonsense\r\n";
        stream.write_all(greeting.as_bytes()).unwrap();
        sent.store(true, Ordering::SeqCst);
        let _ = std::io::Read::read(&mut stream, &mut [0; 64]);
    });
    let turns = AtomicU32::new(0);
    let others = async {
        loop {
            tokio::task::yield_now().await;
            if is_sent.load(Ordering::SeqCst) {
                turns.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let alert = Alert::example("canary-1");
    let failed = tokio::select! {
        delivered = email.deliver(&alert) => delivered.unwrap_err(),
        () = others => unreachable!(),
    };
    assert!(failed.problem.contains("cannot be reached"), "{failed}");
    let turns = turns.load(Ordering::SeqCst);
    assert!(
        turns > 10_000,
        "other work had only {turns} turns meanwhile"
    );
}

#[tokio::test]
async fn response_without_an_end_is_given_up() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220-").unwrap();
        // Until the other side closes the connection.
        let chunk = [b'a'; 4096];
        let mut sent = 0;
        while stream.write_all(&chunk).is_ok() {
            sent += chunk.len();
        }
        sent
    });
    let alert = Alert::example("canary-1");
    let failed = email(port).deliver(&alert).await.unwrap_err();
    let problem =
        format!("the mail server 127.0.0.1:{port} cannot be reached: its response is longer than");
    assert!(failed.problem.starts_with(&problem), "{failed}");
    // What the system buffers is not counted.
    let sent = server.join().unwrap();
    assert!(sent < 64 << 20, "{sent}");
}

/// A mail server that answers `RCPT` for each address with what `recipient` returns, and the mails that it accepts.
fn mail_server(
    recipient: fn(&str) -> &'static str,
) -> (u16, std::sync::mpsc::Receiver<Vec<String>>) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (accepted, mails) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stream = stream;
            let mut say = |text: &str| write!(stream, "{text}\r\n").unwrap();
            let mut to = Vec::new();
            say("220 here");
            while let Some(Ok(line)) = lines.next() {
                match line.split([' ', ':']).next().unwrap_or_default() {
                    "RCPT" => {
                        let answer = recipient(&line);
                        if answer.starts_with('2') {
                            to.push(line);
                        }
                        say(answer);
                    }
                    "DATA" if to.is_empty() => say("554 no recipients"),
                    "DATA" => {
                        say("354 go on");
                        while lines.next().is_some_and(|line| line.unwrap() != ".") {}
                        accepted.send(std::mem::take(&mut to)).unwrap();
                        say("250 taken");
                    }
                    _ => say("250 fine"),
                }
            }
        }
    });
    (port, mails)
}

#[tokio::test]
async fn recipient_that_is_refused_keeps_no_other_from_the_mail() {
    let (port, mails) = mail_server(|line| match line.contains("b@example.com") {
        true => "550 no such user",
        false => "250 fine",
    });
    let failed = email(port)
        .deliver(&Alert::example("canary-1"))
        .await
        .unwrap_err();
    assert!(failed.is_permanent && failed.is_partial, "{failed:?}");
    assert!(
        failed.problem.contains("the recipient b@example.com")
            && failed.problem.contains("the other recipients have it"),
        "{failed}"
    );
    let to = mails.recv().unwrap();
    assert!(to.len() == 1 && to[0].contains("a@example.com"), "{to:?}");
}

#[tokio::test]
async fn mail_that_no_recipient_is_accepted_for_is_retried() {
    let (port, _mails) = mail_server(|_| "550 no such user");
    let failed = email(port)
        .deliver(&Alert::example("canary-1"))
        .await
        .unwrap_err();
    assert!(!failed.is_permanent && !failed.is_partial, "{failed:?}");
}
