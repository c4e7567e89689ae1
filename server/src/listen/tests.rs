//! Connections as clients see them: over real sockets, or over a pipe where time must not be waited for.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Extension;
use axum::routing::{get, post};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::phase::{CloseReason, ConnectionState};
use super::{HttpServer, Listeners, Transport, accept, connection};
use crate::front::Fronts;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::peer::Peer;
use crate::prepare::PreparingStatus;
use crate::shutdown::Shutdown;
use crate::tls::TlsServer;
use crate::tls::tests::pki::{Pki, connector, localhost};

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(10);

const FREE: &str = "127.0.0.1:0";

/// Who one is; what one sent; a stream that the test feeds.
fn router(feed: mpsc::UnboundedReceiver<Bytes>) -> Router {
    let feed = Arc::new(std::sync::Mutex::new(Some(feed)));
    let who = async |Extension(peer): Extension<Peer>| match peer.identity {
        Some(client) if client.is_trusted() => client.name().to_owned(),
        Some(_) => "not trusted".to_owned(),
        None => peer.address.ip().to_string(),
    };
    let echo = async |body: Result<Bytes, axum::extract::rejection::BytesRejection>| match body {
        Ok(body) => format!("{} bytes", body.len()),
        Err(error) => error.body_text(),
    };
    let stream = async move || {
        let feed = feed.lock().unwrap().take().expect("there is one stream");
        Body::from_stream(stream::unfold(feed, async |mut feed| {
            Some((Ok::<_, std::io::Error>(feed.recv().await?), feed))
        }))
    };
    Router::new()
        .route("/who", get(who))
        .route("/echo", post(echo))
        .route("/stream", get(stream))
}

struct ListenFixture {
    address: SocketAddr,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    feed: mpsc::UnboundedSender<Bytes>,
    connections: JoinSet<()>,
}

/// Serves at most so many connections.
async fn serve(transport: Transport, max_connections: usize) -> ListenFixture {
    let listeners = Listeners::open([(FREE.parse().unwrap(), transport)])
        .await
        .unwrap();
    let address = listeners.endpoints().unwrap()[0].address;
    let (feed, fed) = mpsc::unbounded_channel();
    let (shutdown, metrics) = (Shutdown::new(), Arc::new(Metrics::new()));
    let server = HttpServer::new(
        router(fed),
        shutdown.clone(),
        metrics.clone(),
        Arc::default(),
        max_connections,
    );
    ListenFixture {
        address,
        shutdown,
        metrics,
        feed,
        connections: listeners.serve(&server),
    }
}

impl ListenFixture {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until the metrics say so.
    async fn counts(&self, line: &str) {
        let models = Models::new([("council".parse().unwrap(), Vec::new())], false);
        let reported = async {
            while !self
                .metrics
                .render(&models, &Fronts::none(), &PreparingStatus::default())
                .lines()
                .any(|l| l == line)
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let reported = timeout(SOON, reported).await;
        assert!(
            reported.is_ok(),
            "{line} in {}",
            self.metrics
                .render(&models, &Fronts::none(), &PreparingStatus::default())
        );
    }
}

/// Sends, and reads until the other side has had enough or `until` has come.
async fn exchange(
    socket: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    send: &str,
    until: &str,
) -> String {
    // A server that has had enough may close before everything is sent.
    let _ = socket.write_all(send.as_bytes()).await;
    let _ = socket.flush().await;
    let mut all = String::new();
    let mut buffer = [0; 4096];
    let read = async {
        while until.is_empty() || !all.contains(until) {
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => all.push_str(&String::from_utf8_lossy(&buffer[..read])),
            }
        }
    };
    let in_time = timeout(Duration::from_secs(600), read).await;
    assert!(in_time.is_ok(), "waited for `{until}`");
    all
}

const WHO: &str = "GET /who HTTP/1.1\r\nhost: x\r\n\r\n";

/// A connection over a pipe, whose time is the test's, and what its phase says in the end.
fn pipe() -> (DuplexStream, JoinSet<Option<CloseReason>>) {
    let (near, far) = duplex(1 << 16);
    let (_, fed) = mpsc::unbounded_channel();
    let state = Arc::new(ConnectionState::new(false));
    let peer = Peer {
        address: FREE.parse().unwrap(),
        identity: None,
    };
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (router, shutdown) = (router(fed), Shutdown::new());
        let served = connection::serve_http(near, peer, state.clone(), &router, &shutdown);
        tokio::select! {
            () = served => None,
            reason = state.must_close() => Some(reason),
        }
    });
    (far, task)
}

#[tokio::test(start_paused = true)]
async fn slow_head_is_closed_after_ten_seconds() {
    let (mut client, mut task) = pipe();
    let began = Instant::now();
    let dribble = async {
        while client.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(800)).await;
        }
    };
    dribble.await;
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(
        task.join_next().await.unwrap().unwrap(),
        Some(CloseReason::Head)
    );
}

#[tokio::test(start_paused = true)]
async fn slow_body_is_answered_after_half_a_minute_and_closed() {
    let (mut client, _task) = pipe();
    client
        .write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        .await
        .unwrap();
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(client);
    tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let mut answer = String::new();
    read.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("did not arrive within 30 s"), "{answer}");
    assert!((30..33).contains(&began.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn silent_connection_is_closed_after_a_while() {
    let (mut client, mut task) = pipe();
    for _ in 0..3 {
        let answer = exchange(&mut client, WHO, "127.0.0.1").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        sleep(Duration::from_secs(60)).await;
    }
    let began = Instant::now();
    assert_eq!(exchange(&mut client, "", "").await, "");
    assert_eq!(began.elapsed().as_secs(), 15);
    assert_eq!(
        task.join_next().await.unwrap().unwrap(),
        Some(CloseReason::Idle)
    );
}

#[tokio::test]
async fn head_that_is_too_large_is_refused() {
    let served = serve(Transport::Plain, 100).await;
    let ask = async |head: String| {
        let mut socket = served.connect().await;
        exchange(&mut socket, &head, "").await
    };
    let fields = |count| {
        let fields: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("GET /who HTTP/1.1\r\n{fields}connection: close\r\n\r\n")
    };
    let answer = ask(fields(63)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = ask(fields(64)).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let padding = "x".repeat(connection::LARGEST_HEAD);
    let answer = ask(format!("GET /who HTTP/1.1\r\nx: {padding}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = ask("HELO\r\n\r\n".into()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn connections_without_requests_are_evicted() {
    let served = serve(Transport::Plain, 8).await;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        let mut socket = served.connect().await;
        socket.write_all(b"GET /who").await.unwrap();
        crowd.push(socket);
    }
    let mut socket = served.connect().await;
    let answer = timeout(SOON, exchange(&mut socket, WHO, "127.0.0.1")).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    served
        .counts(r#"sanctum_connections_refused_total{reason="evicted"} 13"#)
        .await;
    served.counts("sanctum_connections 8").await;
    drop((crowd, socket));
    served.counts("sanctum_connections 0").await;
}

#[tokio::test]
async fn unfinished_handshakes_are_evicted() {
    let pki = Pki::new();
    let served = serve(Transport::Tls(TlsServer::read(pki.files()).unwrap()), 8).await;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(served.connect().await);
    }
    let pair = pki.client("guardian", 5);
    let connect = connector(Some(&pair)).connect(localhost(), served.connect().await);
    let mut stream = timeout(SOON, connect).await.unwrap().unwrap();
    let answer = exchange(&mut stream, WHO, "guardian").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn address_in_use_is_bound_when_it_is_free() {
    let taken = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    // A loopback address must be bound at once …
    let error = Listeners::open([(address.into(), Transport::Plain)])
        .await
        .err()
        .unwrap();
    let error = error.to_string();
    assert!(
        error.contains(&address.to_string()) && error.contains("--port"),
        "{error}"
    );
    // … and one that this machine, or an interface, does not have yet may come later.
    let elsewhere = ["192.0.2.1:80", "[fe80::1%nowhere0]:80", FREE];
    let addresses = elsewhere.map(|address| (address.parse().unwrap(), Transport::Plain));
    let listeners = Listeners::open(addresses).await.unwrap();
    assert_eq!(listeners.endpoints().unwrap().len(), 1);
    // What is tried again is bound as soon as it can be.
    let (_, fed) = mpsc::unbounded_channel();
    let shutdown = Shutdown::new();
    let metrics = Arc::new(Metrics::new());
    let server = HttpServer::new(router(fed), shutdown.clone(), metrics, Arc::default(), 8);
    let mut serving = JoinSet::new();
    serving.spawn(accept::run(address.into(), Transport::Plain, None, server));
    drop(taken);
    let asked = async {
        loop {
            match TcpStream::connect(address).await {
                Ok(mut socket) => return exchange(&mut socket, WHO, "127.0.0.").await,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let answer = timeout(SOON, asked).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shutdown.drain();
    assert!(timeout(SOON, serving.join_next()).await.is_ok());
}

#[tokio::test]
async fn revoked_client_reads_its_stream_to_the_end_and_its_next_request_is_refused() {
    let pki = Pki::new();
    let tls = TlsServer::read(pki.files()).unwrap();
    let following = tls.clone();
    tokio::spawn(async move { following.follow().await });
    let served = serve(Transport::Tls(tls), 8).await;
    let pair = pki.client("canary", 5);
    let connector = connector(Some(&pair));
    let connect = async || connector.connect(localhost(), served.connect().await).await;
    let mut reader = connect().await.unwrap();
    let mut asker = connect().await.unwrap();
    let request = "GET /stream HTTP/1.1\r\nhost: x\r\n\r\n";
    served.feed.send(Bytes::from_static(b"first")).unwrap();
    exchange(&mut reader, request, "first").await;
    assert!(exchange(&mut asker, WHO, "canary").await.contains("200 OK"));

    // Both at once: revoked, and the server's certificate renewed.
    pki.revoke(&[5]);
    pki.install(&pki.server(6));
    timeout(Duration::from_secs(2), async {
        loop {
            let answer = exchange(&mut asker, WHO, "\r\n\r\n").await;
            if answer.contains("not trusted") {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("it is refused on the same connection");
    served.feed.send(Bytes::from_static(b"second")).unwrap();
    assert!(exchange(&mut reader, "", "second").await.contains("second"));
    let ListenFixture {
        feed,
        connections,
        shutdown,
        ..
    } = served;
    drop(feed);
    assert!(
        exchange(&mut reader, "", "0\r\n\r\n")
            .await
            .contains("0\r\n\r\n")
    );
    let mut late = connector
        .connect(
            localhost(),
            TcpStream::connect(served.address).await.unwrap(),
        )
        .await
        .unwrap();
    let error = late.read(&mut [0; 1]).await.unwrap_err().to_string();
    assert!(error.contains("CertificateRevoked"), "{error}");
    shutdown.drain();
    drop(connections);
}

#[tokio::test]
async fn plain_http_on_a_tls_listener_is_closed_without_a_response() {
    let pki = Pki::new();
    let served = serve(Transport::Tls(TlsServer::read(pki.files()).unwrap()), 8).await;
    let mut socket = served.connect().await;
    let answer = exchange(&mut socket, WHO, "").await;
    assert!(!answer.contains("HTTP"), "{answer}");
    served
        .counts(r#"sanctum_connections_refused_total{reason="not_tls"} 1"#)
        .await;
}

#[tokio::test]
async fn draining_closes_idle_connections_and_unfinished_handshakes_at_once() {
    let pki = Pki::new();
    let mut served = serve(Transport::Tls(TlsServer::read(pki.files()).unwrap()), 8).await;
    let pair = pki.client("canary", 5);
    let socket = served.connect().await;
    let mut idle = connector(Some(&pair))
        .connect(localhost(), socket)
        .await
        .unwrap();
    exchange(&mut idle, WHO, "canary").await;
    let _half_open = served.connect().await;
    served.counts("sanctum_connections 2").await;
    let began = Instant::now();
    served.shutdown.drain();
    served.connections.join_next().await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
}
