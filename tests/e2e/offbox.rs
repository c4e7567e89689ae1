//! The laptop watches the Mini from outside, over a network that can fail: each outage alerts once on the laptop's screen, its
//! end once, and the laptop's own absence never.

pub(crate) mod desktop;
pub(crate) mod network;
mod pair;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use sanctum_tests::{SCALES, flip_a_bit, skipped};

use desktop::Desktop;
use pair::{HostPair, replace};

const CANARY: &str = "server on mini fails its check";
const DRIFT: &str = "the installation on mini, checked from outside, fails its check";

/// Checks after an alert, or after its end, that must not alert.
const FURTHER: u64 = 5;

fn recovered(title: &str) -> String {
    format!("recovered: {title}")
}

/// The outage of this title alerted once, its end once, and there was no other alert.
#[track_caller]
fn once_and_over(pair: &HostPair, title: &str) {
    pair.told(&recovered(title));
    for watchdog in pair::WATCHDOGS {
        pair.look_on(watchdog, "ok", FURTHER);
    }
    assert_eq!(pair.titles(), [title.to_owned(), recovered(title)]);
}

#[test]
fn stopped_server_of_the_mini_alerts_once_and_recovers_once() {
    let Some(mut pair) = HostPair::new() else {
        return;
    };
    pair.kill_server();
    let alert = pair.told(CANARY);
    assert!(alert.body.contains("198.18.77.2:1337"), "{}", alert.body);
    assert_eq!(alert.sound.as_deref(), Some("Submarine"));
    assert!(alert.stays, "until it is dismissed");
    assert_eq!(alert.urgency, Some(2));
    pair.look_on("canary-offbox", "miss", FURTHER);
    pair.look_on("drift-offbox", "ok", FURTHER);
    assert_eq!(pair.titles(), [CANARY]);
    pair.start_server();
    once_and_over(&pair, CANARY);
    // An operator who returns must not find the outage without its end.
    assert!(pair.told(&recovered(CANARY)).stays);
}

#[test]
fn unreachable_mini_alerts_through_the_canary_only() {
    let Some(pair) = HostPair::new() else { return };
    pair.network.drop_packets_to_mini(true);
    pair.told(CANARY);
    // Each of these checks takes its whole time limit. That drift cannot check either is the same outage.
    pair.look_on("canary-offbox", "miss", 2);
    pair.look_on("drift-offbox", "busy", 2);
    assert_eq!(pair.titles(), [CANARY]);
    pair.network.drop_packets_to_mini(false);
    once_and_over(&pair, CANARY);
}

#[test]
fn wrong_answer_of_the_mini_alerts() {
    let Some(mut pair) = HostPair::new() else {
        return;
    };
    let flip = |pair: &HostPair| flip_a_bit(&pair.path("mini/model"), SCALES);
    pair.serve_again_after(flip);
    let alert = pair.told(CANARY);
    assert!(alert.body.contains("instead of `4`"), "{}", alert.body);
    pair.look_on("canary-offbox", "miss", FURTHER);
    pair.look_on("drift-offbox", "ok", FURTHER);
    assert_eq!(pair.titles(), [CANARY]);
    // The same bit again: the answer is right.
    pair.serve_again_after(flip);
    once_and_over(&pair, CANARY);
}

#[test]
fn replaced_program_of_the_mini_alerts() {
    let Some(pair) = HostPair::new() else { return };
    replace(&pair.binary(), &HostPair::script("by an attacker"));
    let alert = pair.told(DRIFT);
    let body = &alert.body;
    assert!(
        body.contains("bin/sanctum-server: its contents are not the installed ones"),
        "{body}"
    );
    pair.look_on("drift-offbox", "miss", FURTHER);
    pair.look_on("canary-offbox", "ok", FURTHER);
    assert_eq!(pair.titles(), [DRIFT]);
    replace(&pair.binary(), &HostPair::script("as installed"));
    once_and_over(&pair, DRIFT);
}

#[test]
fn offline_laptop_does_not_alert() {
    let Some(pair) = HostPair::new() else { return };
    pair.network.set_laptop_offline(true);
    for watchdog in pair::WATCHDOGS {
        pair.look_on(watchdog, "offline", FURTHER);
    }
    pair.network.set_laptop_offline(false);
    for watchdog in pair::WATCHDOGS {
        pair.look_on(watchdog, "ok", FURTHER);
    }
    pair.all_well();
    assert!(pair.titles().is_empty(), "{:?}", pair.titles());
}

/// Desktops interpret markup in a text, and a server may answer any text.
#[test]
fn answer_of_a_server_is_shown_without_markup() {
    if !pair::is_there("dbus-daemon") {
        return skipped("dbus-daemon (Debian: dbus)").unwrap_or_default();
    }
    let folder = tempfile::tempdir().unwrap();
    let desktop = Desktop::new(folder.path());
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let body = r#"{"choices":[{"message":{"content":"<b>5</b> & <img src='x'/>\u001b]0;x\u0007\u202e"}}]}"#;
        for mut stream in server.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}", body.len());
            let _ = write!(stream, "{head}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    let config = folder.path().join("fleet.toml");
    let text = format!(
        "[fleet]\nhome = \"{}\"\n[hosts.here]\naddress = \"127.0.0.1\"\nagents = [\"canary\"]\n\
         [servers.server]\nhost = \"here\"\nlisten = [\"{address}\"]\n\
         [watch.canary]\ntarget = \"server\"\nevery = \"1h\"\nalert = [\"desktop\"]\n[alerts.desktop]\n",
        folder.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let mut canary = Command::new(sanctum_tests::program("sanctum-canary"))
        .arg("--config")
        .arg(&config)
        .env("DBUS_SESSION_BUS_ADDRESS", desktop.address())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while desktop.shown().is_empty() && begun.elapsed() < crate::host::SOON {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    canary.kill().unwrap();
    canary.wait().unwrap();
    let body = &desktop.shown()[0].body;
    let escaped = r"`&lt;b&gt;5&lt;/b&gt; &amp; &lt;img src='x'/&gt;\u{1b}]0;x\u{7}\u{202e}`";
    assert!(body.contains(escaped), "{body}");
}
