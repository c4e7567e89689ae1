//! A receiver of alerts with the interface of Force Flow, which can be switched to fail.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::{Host, SOON};

/// Accepts alerts over HTTP while this process runs.
pub struct Receiver {
    port: u16,
    seen: Arc<Mutex<ReceivedAlerts>>,
}

#[derive(Default)]
struct ReceivedAlerts {
    is_down: bool,
    taken: Vec<Value>,
    refused: Vec<Value>,
}

impl Receiver {
    /// A receiver at a free port of loopback.
    #[allow(clippy::new_without_default, reason = "it listens and starts a thread")]
    pub fn new() -> Self {
        Self::calling(|_| {})
    }

    /// The same; it passes each alert that it accepts to `on_alert` at once.
    pub fn calling(on_alert: impl Fn(&Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(ReceivedAlerts::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &shared, &on_alert);
            }
        });
        Self { port, seen }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/notify", self.port)
    }

    /// The sections of fleet.toml that make it the channel `phone`.
    pub fn section(&self) -> String {
        format!("[alerts.phone]\nurl = \"{}\"\n", self.url())
    }

    /// A host with a server and a canary that alerts through it.
    pub fn host_with_canary(&self) -> Host {
        let host = Host::new();
        host.release_of_scripts("1", "exec \"$SERVER\" \"$@\"");
        let canary = format!(
            "[watch.canary]\ntarget = \"server\"\nevery = \"300ms\"\ntimeout = \"1s\"\nmisses = 2\nalert = [\"phone\"]\n{}",
            self.section()
        );
        host.fleet(&["server", "canary"], "", &canary);
        host.install("1");
        host.all_well(&["canary"]);
        host
    }

    /// Sets whether it answers 503 to everything.
    pub fn set_down(&self, is_down: bool) {
        self.seen.lock().unwrap().is_down = is_down;
    }

    /// The accepted alerts, in order.
    pub fn taken(&self) -> Vec<Value> {
        self.seen.lock().unwrap().taken.clone()
    }

    /// The alerts that it refused.
    pub fn refused(&self) -> Vec<Value> {
        self.seen.lock().unwrap().refused.clone()
    }

    /// The alerts with this in their title.
    pub fn titled(&self, part: &str) -> Vec<Value> {
        let all = self.taken().into_iter();
        all.filter(|alert| field(alert, "title").contains(part))
            .collect()
    }

    /// Waits until this many alerts have `part` in their title.
    #[track_caller]
    pub fn wait(&self, part: &str, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let found = self.titled(part);
            if found.len() >= count {
                return found;
            }
            assert!(
                begun.elapsed() < SOON,
                "waited for {count} × `{part}`; there are {:#?}",
                self.taken()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A field of an alert.
pub fn field(alert: &Value, name: &str) -> String {
    alert[name].as_str().unwrap_or_default().to_owned()
}

fn answer(
    stream: TcpStream,
    seen: &Mutex<ReceivedAlerts>,
    on_alert: &impl Fn(&Value),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.to_lowercase().split_once(':') {
            Some(("content-length", value)) => {
                length = value.trim().parse().unwrap_or(0);
            }
            _ if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let alert: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut seen = seen.lock().unwrap();
    let status = match seen.is_down {
        true => "503 Service Unavailable",
        false => "200 OK",
    };
    match seen.is_down {
        true => seen.refused.push(alert),
        false => {
            on_alert(&alert);
            seen.taken.push(alert);
        }
    }
    write!(
        &stream,
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
}
