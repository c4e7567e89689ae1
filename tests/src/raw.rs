//! A request as text over a plain connection: what no client library would send.

use std::io::{Read, Write};
use std::net::TcpStream;

/// A response as received, read until the connection closes.
#[derive(Debug)]
pub struct Raw {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, with its framing.
    pub body: String,
}

impl Raw {
    /// Sends a request of these header lines; `connection: close` and the body's length are added.
    ///
    /// # Panics
    /// If no HTTP response arrives within [`patience`](crate::patience).
    pub fn ask(mut stream: TcpStream, request: &str, headers: &[&str], body: &str) -> Self {
        send(&mut stream, request, headers, body);
        let mut text = Vec::new();
        stream.read_to_end(&mut text).expect("the answer ends");
        let text = String::from_utf8(text).expect("the answer is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Self {
            status: status.expect("an answer has a status"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Sends a request and waits for the first bytes of the response; the rest arrives while the stream is open.
    ///
    /// # Panics
    /// If the response does not begin with status 200.
    pub fn begin(mut stream: TcpStream, request: &str, headers: &[&str], body: &str) -> TcpStream {
        send(&mut stream, request, headers, body);
        let mut first = [0; 16];
        stream.read_exact(&mut first).expect("an answer begins");
        assert!(
            first.starts_with(b"HTTP/1.1 200"),
            "{}",
            first.escape_ascii()
        );
        stream
    }
}

fn send(stream: &mut TcpStream, request: &str, headers: &[&str], body: &str) {
    stream
        .set_read_timeout(Some(crate::patience()))
        .expect("it is not zero");
    let mut text = format!("{request} HTTP/1.1\r\nconnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream
        .write_all(text.as_bytes())
        .expect("the server listens");
}
