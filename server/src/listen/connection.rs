//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
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

use super::bodies::{Arriving, Leaving};
use super::phase::Progress;
use super::seats::Seat;
use super::socket::Socket;
use super::{Door, Site};
use crate::client_key::ClientKey;
use crate::peer::Peer;
use crate::shutdown::Shutdown;
use crate::tls;

/// The bytes that the head of a request may have; a longer one is answered with 431.
pub const LARGEST_HEAD: usize = 16 << 10;
/// The header fields that a request may have; more are answered with 431.
pub const MOST_HEADERS: usize = 64;

/// How long, and how much, is still read from a client that was told goodbye: closing a socket with unread bytes
/// resets the connection, and takes the last answer with it. A body that is refused by its announced length is still on
/// its way when the answer leaves, and few clients look for an answer before they have sent all of it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 32 << 20;

/// Serves a connection until it ends or must end.
pub async fn serve(
    socket: TcpStream,
    address: std::net::SocketAddr,
    seat: Seat,
    door: Door,
    site: Site,
) {
    // A token is a small packet, and Nagle's algorithm would keep it back.
    let _ = socket.set_nodelay(true);
    let progress = seat.progress().clone();
    let connection = async {
        match door {
            Door::Plain => {
                let peer = Peer {
                    address,
                    identity: None,
                };
                talk(socket, peer, progress.clone(), &site.router, &site.shutdown).await;
            }
            Door::Tls(tls) => {
                let shaking = tls.accept(socket);
                let shaken = tokio::select! {
                    shaken = shaking => shaken,
                    () = site.shutdown.draining() => return,
                };
                match shaken {
                    Ok((socket, identity)) => {
                        progress.shaken();
                        let peer = Peer {
                            address,
                            identity: Some(identity),
                        };
                        talk(socket, peer, progress.clone(), &site.router, &site.shutdown).await;
                    }
                    Err((refusal, socket)) => {
                        refused(&site, address, &refusal);
                        linger(socket).await;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = connection => {}
        over = progress.over() => {
            if let Some(reason) = over.reason() {
                site.metrics.connection_refused(reason);
            }
        }
    }
}

/// Speaks HTTP until the client or the server has had enough.
pub async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    peer: Peer,
    progress: Arc<Progress>,
    router: &Router,
    shutdown: &Shutdown,
) {
    let router = TowerToHyperService::new(router.clone());
    let watched = progress.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let progress = watched.clone();
        progress.asked(request.body().is_end_stream());
        let mut request = request.map(|body| Arriving::new(body, progress.clone()));
        request.extensions_mut().insert(peer.clone());
        let answer = router.call(request);
        Box::pin(async move {
            let Ok(answer) = answer.await;
            Ok::<_, Infallible>(answer.map(|body| Leaving::new(body, progress)))
        }) as Pin<Box<dyn Future<Output = Result<Response<Leaving>, Infallible>> + Send>>
    });
    let mut connection = http1::Builder::new()
        .max_headers(MOST_HEADERS)
        .max_header_size(LARGEST_HEAD)
        // The time that a head may take is the connection's business, not only the request's: see `phase`.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Socket::new(socket, progress)), service);
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

/// Says goodbye and listens a moment longer.
async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let goodbye = async {
        if socket.shutdown().await.is_ok() {
            let mut rest = socket.take(LINGER_BYTES);
            let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
        }
    };
    let _ = timeout(LINGER, goodbye).await;
}

/// Counts and logs a handshake that failed.
fn refused(site: &Site, address: std::net::SocketAddr, refusal: &tls::Refusal) {
    site.metrics.connection_refused(refusal.reason);
    let client = ClientKey::of_address(address);
    if !refusal.is_telling() {
        tracing::debug!(peer = %address, reason = refusal.reason, "{refusal}");
    } else if let Some(left_out) = site.log_limiter.permit(Some(&client)) {
        tracing::warn!(
            peer = %address,
            reason = refusal.reason,
            left_out,
            "TLS handshake refused: {refusal}"
        );
    }
}
