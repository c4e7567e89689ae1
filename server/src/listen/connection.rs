//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::connection_limit::ConnectionPermit;
use super::http_server::HttpServer;
use super::phase::ConnectionState;
use super::timed_io::{TimedBody, TimedSocket};
use super::transport::Transport;
use crate::client_key::ClientKey;
use crate::peer::Peer;
use crate::shutdown::Shutdown;
use crate::tls::HandshakeError;
use crate::tracked_body::{EndOfBody, TrackedBody};

/// The largest head of a request, in bytes; a larger one is answered with 431.
pub(crate) const LARGEST_HEAD: usize = 16 << 10;
/// The most header fields of a request; more are answered with 431.
pub(crate) const MOST_HEADERS: usize = 64;

/// How long, and how much, is still read from a client after the last response: closing a socket with unread bytes
/// resets the connection, and the response is lost with it. A body that is refused by its announced length is still
/// arriving when the response is sent, and few clients read a response before they have sent all of the body.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 32 << 20;

/// Serves a connection until one side ends it.
pub(crate) async fn serve(
    socket: TcpStream,
    address: SocketAddr,
    permit: ConnectionPermit,
    transport: Transport,
    server: HttpServer,
) {
    // A token is a small packet, and Nagle's algorithm would delay it.
    let _ = socket.set_nodelay(true);
    let state = permit.state().clone();
    let connection = async {
        match transport {
            Transport::Plain => {
                let peer = Peer {
                    address,
                    identity: None,
                };
                serve_http(
                    socket,
                    peer,
                    state.clone(),
                    &server.router,
                    &server.shutdown,
                )
                .await;
            }
            Transport::Tls(tls) => {
                let accepted = tokio::select! {
                    accepted = tls.accept(socket) => accepted,
                    () = server.shutdown.draining() => return,
                };
                match accepted {
                    Ok((socket, identity)) => {
                        state.handshake_done();
                        let peer = Peer {
                            address,
                            identity: Some(identity),
                        };
                        let (router, shutdown) = (&server.router, &server.shutdown);
                        serve_http(socket, peer, state.clone(), router, shutdown).await;
                    }
                    Err((error, socket)) => {
                        report(&server, address, &error);
                        linger(socket).await;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = connection => {}
        close = state.must_close() => {
            if let Some(reason) = close.reason() {
                server.refused(address, reason);
            }
        }
    }
}

/// Serves HTTP until the client disconnects or the server drains.
pub(crate) async fn serve_http<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    peer: Peer,
    state: Arc<ConnectionState>,
    router: &Router,
    shutdown: &Shutdown,
) {
    let router = TowerToHyperService::new(router.clone());
    let socket = TimedSocket::new(socket, state.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        state.head_received(request.body().is_end_stream());
        let mut request = request.map(|body| TimedBody::new(body, state.clone()));
        request.extensions_mut().insert(peer.clone());
        let response = router.call(request);
        Box::pin(async move {
            let Ok(response) = response.await;
            Ok::<_, Infallible>(response.map(|body| TrackedBody::new(body, ResponseEnd(state))))
        }) as Pin<Box<dyn Future<Output = Result<TrackedResponse, Infallible>> + Send>>
    });
    let mut connection = http1::Builder::new()
        .max_headers(MOST_HEADERS)
        .max_header_size(LARGEST_HEAD)
        // The time limit of a head belongs to the connection, not only to the request: see `phase`.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service);
    let mut draining = pin!(shutdown.draining());
    let mut drains = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = &mut draining, if !drains => {
                drains = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    let mut socket = connection.into_parts().io.into_inner();
    match drains {
        true => {
            let _ = timeout(LINGER, socket.shutdown()).await;
        }
        false => linger(socket).await,
    }
}

type TrackedResponse = Response<TrackedBody<ResponseEnd>>;

/// The connection is idle once the response is sent or dropped.
struct ResponseEnd(Arc<ConnectionState>);

impl EndOfBody for ResponseEnd {}

impl Drop for ResponseEnd {
    fn drop(&mut self) {
        self.0.response_sent();
    }
}

/// Closes the sending side and reads for a moment longer.
async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let close = async {
        if socket.shutdown().await.is_ok() {
            let mut rest = socket.take(LINGER_BYTES);
            let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
        }
    };
    let _ = timeout(LINGER, close).await;
}

/// Counts and logs a handshake that failed.
fn report(server: &HttpServer, address: SocketAddr, error: &HandshakeError) {
    let client = ClientKey::of_address(address);
    if !error.is_worth_a_warning() {
        server.metrics.connection_refused(error.reason);
        tracing::debug!(peer = %address, reason = error.reason, "{error}");
        return;
    }
    server.refused(address, error.reason);
    if let Some(left_out) = server.log_limiter.permit(Some(&client)) {
        tracing::warn!(
            peer = %address,
            reason = error.reason,
            left_out,
            "TLS handshake refused: {error}"
        );
    }
}
