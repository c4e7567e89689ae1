//! An HTTP receiver that keeps its port while it is down, and records whole requests. It can be an ntfy server, which
//! accepts only what ntfy's documentation allows (<https://docs.ntfy.sh/publish/#publish-as-json>).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::SOON;

/// A request.
#[derive(Clone, Debug, Default)]
pub(super) struct ReceivedRequest {
    pub method: String,
    pub path: String,
    pub token: String,
    pub body: String,
}

/// The status and the body of the response to a request.
type Responder = fn(&ReceivedRequest) -> (u16, String);

pub(super) struct HttpReceiver {
    port: u16,
    seen: Arc<Mutex<ReceivedRequests>>,
}

#[derive(Default)]
struct ReceivedRequests {
    is_down: bool,
    accepted: Vec<ReceivedRequest>,
    refused: Vec<ReceivedRequest>,
}

impl HttpReceiver {
    /// A receiver that accepts everything.
    pub(super) fn new() -> Self {
        Self::answering(|_| (200, "ok".to_owned()))
    }

    /// An ntfy server whose topics need the token `tk_secret`.
    pub(super) fn ntfy() -> Self {
        Self::answering(ntfy)
    }

    pub(super) fn answering(answer: Responder) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(ReceivedRequests::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(&stream, &shared, answer);
            }
        });
        Self { port, seen }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Sets whether it answers 503 to everything.
    pub(super) fn set_down(&self, is_down: bool) {
        self.seen.lock().unwrap().is_down = is_down;
    }

    /// The accepted requests, in order.
    pub(super) fn accepted(&self) -> Vec<ReceivedRequest> {
        self.seen.lock().unwrap().accepted.clone()
    }

    /// The requests that it refused, in order.
    pub(super) fn refused(&self) -> Vec<ReceivedRequest> {
        self.seen.lock().unwrap().refused.clone()
    }

    /// Waits until there are this many accepted requests for which `wanted` is true.
    #[track_caller]
    pub(super) fn wait(
        &self,
        count: usize,
        wanted: impl Fn(&ReceivedRequest) -> bool,
    ) -> Vec<ReceivedRequest> {
        let begun = Instant::now();
        loop {
            let found: Vec<_> = self.accepted().into_iter().filter(&wanted).collect();
            if found.len() >= count {
                return found;
            }
            assert!(
                begun.elapsed() < SOON,
                "waited for {count} requests; accepted: {:#?}; refused: {:#?}",
                self.accepted(),
                self.refused()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn serve(
    stream: &TcpStream,
    seen: &Mutex<ReceivedRequests>,
    answer: Responder,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let mut request = ReceivedRequest {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..ReceivedRequest::default()
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => request.token = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.body = String::from_utf8(body).unwrap_or_default();
    let mut seen = seen.lock().unwrap();
    let (status, body) = match seen.is_down {
        true => (503, String::new()),
        false => answer(&request),
    };
    match status {
        200..300 => seen.accepted.push(request),
        _ => seen.refused.push(request),
    }
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn ntfy(request: &ReceivedRequest) -> (u16, String) {
    let error = |status: u16, code: u32, error: &str| {
        (
            status,
            format!("{{\"code\":{code},\"http\":{status},\"error\":\"{error}\"}}"),
        )
    };
    if request.method != "POST" || request.path != "/" {
        return error(404, 40401, "page not found");
    }
    if request.token != "Bearer tk_secret" {
        return error(403, 40301, "forbidden");
    }
    let Ok(Value::Object(message)) = serde_json::from_str(&request.body) else {
        return error(
            400,
            40024,
            "invalid request: request body must be valid JSON",
        );
    };
    let is_topic = |topic: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        (1..=64).contains(&topic.len()) && topic.chars().all(is_plain)
    };
    let is_known = message.iter().all(|(name, value)| match name.as_str() {
        "topic" => value.as_str().is_some_and(is_topic),
        "title" => value.is_string(),
        // A longer one is not a message, but a file.
        "message" => value
            .as_str()
            .is_some_and(|text| (1..=4096).contains(&text.len())),
        "priority" => value
            .as_u64()
            .is_some_and(|priority| (1..=5).contains(&priority)),
        "tags" => value
            .as_array()
            .is_some_and(|tags| tags.iter().all(Value::is_string)),
        _ => false,
    });
    match is_known && message.contains_key("topic") {
        true => (200, "{\"id\":\"x\",\"event\":\"message\"}".to_owned()),
        false => error(400, 40024, "invalid request"),
    }
}
