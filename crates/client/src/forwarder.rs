//! Passes whole requests on to another server, and their responses back piece by piece.

use std::time::{Duration, Instant};

use hyper::body::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Body, Client};

pub use reqwest::Response as ForwardedResponse;

use crate::body_parts::BodyParts;
use crate::client::failed;
use crate::connections::{ConnectionCount, is_closed};
use crate::credentials;
use crate::endpoint::Credentials;
use crate::error::{ClientError, root_cause};
use crate::http;

/// How soon a server closes a connection that it had found idle when the request came. One that it closes later may have been closed
/// while the request was computed.
const IDLE_CLOSE: Duration = Duration::from_secs(1);

/// Sends requests to one server. Connections are kept for the next request.
#[derive(Clone, Debug)]
pub struct Forwarder {
    http: Client,
    /// The connections that `http` has made.
    connections: ConnectionCount,
    /// Makes a connection for each request.
    fresh: Client,
    /// [`IDLE_CLOSE`].
    idle_close: Duration,
    base: String,
    bearer: Option<HeaderValue>,
    connect: Duration,
    first_byte: Duration,
}

impl Forwarder {
    /// For the server at a base URL. A connection may take `connect`, and a response's first byte `first_byte`; the rest of it
    /// may take any time.
    ///
    /// # Errors
    /// If the credentials cannot be used.
    pub fn new(
        base: &str,
        credentials: &Credentials,
        connect: Duration,
        first_byte: Duration,
    ) -> Result<Self, ClientError> {
        let (tls, bearer) = credentials::load(credentials)?;
        let connections = ConnectionCount::default();
        let keeping = http::streaming(tls.clone(), connect).connector_layer(connections.clone());
        let fresh = http::streaming(tls, connect).pool_max_idle_per_host(0);
        let unusable = |error: reqwest::Error| ClientError::Format {
            url: base.to_owned(),
            why: root_cause(&error),
        };
        Ok(Self {
            http: keeping.build().map_err(unusable)?,
            connections,
            fresh: fresh.build().map_err(unusable)?,
            idle_close: IDLE_CLOSE,
            base: base.to_owned(),
            bearer,
            connect,
            first_byte,
        })
    }

    /// Sends a POST request whose body consists of these parts, and waits for the head of the response and, if that is a success,
    /// the first piece of its body; none if that is empty. An error status is returned at once, without a piece. Calls `repeated` if
    /// the request is sent a second time, since a kept connection was closed without a response.
    ///
    /// # Errors
    /// If there is no response, or it breaks off before its first byte.
    pub async fn post(
        &self,
        path: &str,
        mut headers: HeaderMap,
        body: &[Bytes],
        repeated: impl FnOnce(),
    ) -> Result<(ForwardedResponse, Option<Vec<u8>>), ClientError> {
        let url = format!("{}{path}", self.base);
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        let begun = async {
            let mut response = self.send(&url, &headers, body, repeated).await?;
            if !response.status().is_success() {
                return Ok((response, None));
            }
            let first = response.chunk().await?;
            Ok((response, first.map(|piece| piece.to_vec())))
        };
        match tokio::time::timeout(self.first_byte, begun).await {
            Ok(response) => {
                response.map_err(|error| failed(&url, &error, self.connect, self.first_byte))
            }
            Err(_) => Err(ClientError::Timeout {
                url,
                limit: self.first_byte,
            }),
        }
    }

    /// Sends a request, and once more on a new connection if a kept one was closed at once without a response: the server may have
    /// closed it as idle while the request was on its way.
    async fn send(
        &self,
        url: &str,
        headers: &HeaderMap,
        body: &[Bytes],
        repeated: impl FnOnce(),
    ) -> Result<ForwardedResponse, reqwest::Error> {
        let request = |http: &Client| {
            let request = http.post(url).headers(headers.clone());
            request.body(Body::wrap(BodyParts::new(body))).send()
        };
        let (before, begun) = (self.connections.get(), Instant::now());
        match request(&self.http).await {
            // Without a new connection since, it was a kept one.
            Err(error)
                if is_closed(&error)
                    && self.connections.get() == before
                    && begun.elapsed() < self.idle_close =>
            {
                repeated();
                request(&self.fresh).await
            }
            sent => sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;

    use super::*;

    /// A server that answers so many requests of each connection with their bodies, and closes it when it has read one more.
    /// Returns its address, and the requests that it has read.
    fn closing_server(answered: usize) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::<AtomicUsize>::default();
        let requests = count.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let requests = requests.clone();
                thread::spawn(move || serve(connection.unwrap(), answered, &requests));
            }
        });
        (address, count)
    }

    fn serve(connection: TcpStream, answered: usize, requests: &AtomicUsize) {
        let mut reader = BufReader::new(connection);
        for number in 0.. {
            let Some(body) = read_request(&mut reader) else {
                return;
            };
            requests.fetch_add(1, SeqCst);
            if number == answered {
                return;
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let response = [head.into_bytes(), body].concat();
            reader.get_mut().write_all(&response).unwrap();
        }
    }

    /// The body of the next request; none at the end of the connection.
    fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(body)
    }

    fn forwarder(address: SocketAddr) -> Forwarder {
        let limit = Duration::from_secs(60);
        let base = format!("http://{address}");
        Forwarder::new(&base, &Credentials::None, limit, limit).unwrap()
    }

    async fn post(forwarder: &Forwarder, repeated: impl FnOnce()) -> Result<Vec<u8>, ClientError> {
        let body =
            ["{\"model\":", "", "\"x\"", "}"].map(|part| Bytes::from_static(part.as_bytes()));
        let posted = forwarder.post("/", HeaderMap::new(), &body, repeated);
        let (mut response, first) = posted.await?;
        let mut answer = first.unwrap_or_default();
        while let Some(piece) = response.chunk().await.unwrap() {
            answer.extend_from_slice(&piece);
        }
        Ok(answer)
    }

    #[tokio::test]
    async fn request_on_a_kept_connection_that_was_closed_is_sent_once_more() {
        let (address, requests) = closing_server(1);
        let forwarder = forwarder(address);
        for turns in 0..1000 {
            let before = requests.load(SeqCst);
            let is_repeated = Cell::new(false);
            let answer = post(&forwarder, || is_repeated.set(true)).await;
            assert_eq!(is_repeated.get(), requests.load(SeqCst) == before + 2);
            if is_repeated.get() {
                assert_eq!(answer.unwrap(), b"{\"model\":\"x\"}");
                return;
            }
            // The next request finds a kept connection only if this one's task has had its turn.
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        }
        panic!("no request was sent once more");
    }

    /// Any time is too late here: the server may have computed the request.
    #[tokio::test]
    async fn request_on_a_kept_connection_that_was_closed_late_has_failed() {
        let (address, requests) = closing_server(1);
        let forwarder = Forwarder {
            idle_close: Duration::ZERO,
            ..forwarder(address)
        };
        for turns in 0..1000 {
            let before = requests.load(SeqCst);
            let answer = post(&forwarder, || panic!("it is sent once more")).await;
            assert_eq!(requests.load(SeqCst), before + 1);
            if let Err(error) = answer {
                assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
                return;
            }
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        }
        panic!("no request found a kept connection");
    }

    #[tokio::test]
    async fn request_on_a_new_connection_that_was_closed_has_failed() {
        let (address, requests) = closing_server(0);
        let error = post(&forwarder(address), || {}).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert_eq!(requests.load(SeqCst), 1);
    }
}
