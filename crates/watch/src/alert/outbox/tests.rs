//! The outbox with receivers over real sockets.

use super::*;
use crate::alert::undelivered;

fn name(text: &str) -> Label {
    text.parse().unwrap()
}

/// An HTTP receiver that answers `status` to everything, and closes.
fn receiver(status: &'static str) -> Channel {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0");
            let _ = write!(stream, "{head}\r\nconnection: close\r\n\r\n");
        }
    });
    Channel::http(&format!("http://{address}/"))
}

#[tokio::test]
async fn undelivered_alerts_are_listed_with_channel_and_error() {
    let folder = tempfile::tempdir().unwrap();
    let down = [
        (name("down"), receiver("503 Service Unavailable")),
        (name("up"), receiver("204 No Content")),
    ];
    let mut outbox = Outbox::new(folder.path().to_owned(), down);
    assert_eq!(undelivered(folder.path()).unwrap(), []);
    outbox.put(Alert::example("canary-1")).unwrap();
    outbox.put(Alert::example("canary-2")).unwrap();
    assert_eq!(
        undelivered(folder.path()).unwrap().len(),
        4,
        "not tried yet"
    );
    assert!(outbox.deliver().await.unwrap().is_some());
    assert_eq!(outbox.take_accepted(), ["canary-1", "canary-2"]);
    let waiting = undelivered(folder.path()).unwrap();
    assert_eq!(waiting.len(), 2);
    for (one, id) in waiting.iter().zip(["canary-1", "canary-2"]) {
        assert_eq!((one.id.as_str(), &one.channel), (id, &name("down")));
        // The second one was not tried.
        let error = one.error.as_deref().unwrap();
        assert!(error.contains("503"), "{error}");
        assert!(!one.refused);
    }
    let now = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(392);
    let line = waiting[0].line(now);
    assert!(
        line.starts_with("\"title\", raised 392 days ago, has not reached the channel down: http"),
        "{line}"
    );
    // The channel is up again, and the error is removed with the alert.
    let up = [(name("down"), receiver("200 OK"))];
    let mut outbox = Outbox::new(folder.path().to_owned(), up);
    assert_eq!(outbox.deliver().await.unwrap(), None);
    assert_eq!(outbox.take_accepted(), ["canary-1", "canary-2"]);
    assert_eq!(undelivered(folder.path()).unwrap(), []);
}

#[test]
fn alert_is_delivered_by_the_log_if_no_other_channel_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let accepted = |channels: Vec<(Label, Channel)>| {
        let mut outbox = Outbox::new(folder.path().to_owned(), channels);
        outbox.put(Alert::example("canary-1")).unwrap();
        outbox.take_accepted()
    };
    let log = || (name("log"), Channel::Log);
    assert_eq!(accepted(vec![log()]), ["canary-1"]);
    assert_eq!(accepted(vec![]), [] as [&str; 0]);
    assert_eq!(
        accepted(vec![log(), (name("down"), receiver("503 Down"))]),
        [] as [&str; 0]
    );
}

#[tokio::test]
async fn alert_that_is_rejected_permanently_is_listed_as_refused() {
    let folder = tempfile::tempdir().unwrap();
    let channel = (name("flow"), receiver("422 Unprocessable Entity"));
    let mut outbox = Outbox::new(folder.path().to_owned(), [channel]);
    outbox.put(Alert::example("canary-1")).unwrap();
    assert_eq!(outbox.deliver().await.unwrap(), None);
    assert_eq!(outbox.take_accepted(), [] as [&str; 0]);
    let [refused] = &undelivered(folder.path()).unwrap()[..] else {
        panic!("one alert is refused");
    };
    assert!(refused.refused && refused.error.as_deref().unwrap().contains("422"));
}

#[tokio::test]
async fn alert_that_two_channels_reject_is_listed_for_both() {
    let folder = tempfile::tempdir().unwrap();
    let refuses = |channel| (name(channel), receiver("422 Unprocessable Entity"));
    let channels = [refuses("flow"), refuses("phone")];
    let mut outbox = Outbox::new(folder.path().to_owned(), channels);
    outbox.put(Alert::example("canary-1")).unwrap();
    assert_eq!(outbox.deliver().await.unwrap(), None);
    let refused = undelivered(folder.path()).unwrap();
    let channels: Vec<_> = refused.iter().map(|one| one.channel.as_str()).collect();
    assert_eq!(channels, ["flow", "phone"]);
    assert!(refused.iter().all(|one| one.refused && one.error.is_some()));
}

#[tokio::test]
async fn spool_file_that_is_not_an_alert_is_moved_away_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path();
    let made = std::process::Command::new("mkfifo")
        .arg(spool.join("0000000001-fifo.json"))
        .status();
    assert!(made.unwrap().success());
    std::fs::create_dir(spool.join("0000000002-folder.json")).unwrap();
    std::fs::write(spool.join("0000000003-text.json"), "{").unwrap();
    assert_eq!(undelivered(spool).unwrap(), []);
    let mut outbox = Outbox::new(spool.to_owned(), [(name("up"), receiver("200 OK"))]);
    outbox.put(Alert::example("canary-1")).unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(outbox.deliver().await.unwrap(), None);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(outbox.take_accepted(), ["canary-1"]);
    let aside = std::fs::read_dir(spool.join("refused")).unwrap();
    assert_eq!(aside.count(), 3);
}

#[tokio::test]
async fn channel_for_which_nothing_waits_does_not_wake_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let url = Channel::http("http://127.0.0.1:9/notify");
    let mut outbox = Outbox::new(folder.path().to_owned(), [(name("two"), url)]);
    outbox.put(Alert::example("canary-1")).unwrap();
    // `one` was down, and nothing waits for it; `two` is down for a while.
    let now = Instant::now();
    let down = |until| Down {
        until,
        pause: FIRST_PAUSE,
    };
    outbox.down.insert(name("one"), down(now));
    outbox.down.insert(name("two"), down(now + MAX_PAUSE));
    let next = outbox.deliver().await.unwrap();
    assert_eq!(next, Some(now + MAX_PAUSE));
}

/// A receiver that accepts connections and never answers.
fn hole() -> Channel {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let connections: Vec<_> = listener.incoming().collect();
        drop(connections);
    });
    Channel::http(&format!("http://{address}/"))
}

#[tokio::test]
async fn channel_that_hangs_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    // In the order of names the channel that hangs is the first one.
    let channels = [(name("hole"), hole()), (name("up"), receiver("200 OK"))];
    let mut outbox = Outbox::new(folder.path().to_owned(), channels);
    outbox.put(Alert::example("canary-1")).unwrap();
    outbox.put(Alert::example("canary-2")).unwrap();
    let is_delivered = |id: &str| {
        let waiting = undelivered(folder.path()).unwrap();
        waiting
            .iter()
            .all(|one| one.id != id || one.channel == name("hole"))
    };
    let both = async {
        while !(is_delivered("canary-1") && is_delivered("canary-2")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = outbox.deliver() => panic!("the delivery ends when the hanging channel has timed out"),
        () = both => {}
    }
    // What was accepted before the delivery was interrupted is known.
    assert_eq!(outbox.take_accepted(), ["canary-1", "canary-2"]);
    assert_eq!(undelivered(folder.path()).unwrap().len(), 2);
}
