//! The sockets: opened before anything is loaded, served until the server drains.
//!
//! **Binds.** One address at least must be loopback, or take it in ([`addresses`]), and that one must be there at the
//! start: without it the server does not start. Other addresses may come later (a VPN's, an interface that is plugged
//! in): they are tried again in the background until they are there. A socket that was bound once is kept, whatever
//! becomes of its interface.
//!
//! **Connections.** Each is a task of its own ([`connection`]) with a seat ([`seats`]); each phase of it has a time
//! limit ([`phase`]):
//!
//! | Phase | Limit |
//! |---|---|
//! | TLS handshake | 10 s |
//! | head of a request | 10 s, 16 KiB, 64 fields |
//! | body of a request | 30 s, 16 MiB |
//! | answer | none while the client takes something every 120 s |
//! | silence between requests | 75 s |
//!
//! What a request may do once it is read is the gate's business; the address and the certificate that it came with
//! stand in its extensions as a [`Peer`](crate::peer::Peer).

mod accept;
pub mod addresses;
mod bodies;
mod connection;
mod log_rate_limiter;
mod phase;
mod seats;
mod socket;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use sanctum_config::ListenAddress;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::tls::Tls;
pub use bodies::ArrivalError;
use log_rate_limiter::LogRateLimiter;
use seats::Seats;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", mend(.source))]
pub struct ListenError {
    address: ListenAddress,
    source: io::Error,
}

fn mend(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop what listens there, or take another port with --port (0 takes a free one)"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 are root's, take another with --port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

/// How one enters at an address.
#[derive(Clone)]
pub enum Door {
    /// Over plain HTTP.
    Plain,
    /// Over TLS, with a certificate.
    Tls(Arc<Tls>),
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where; a port of 0 has become the one that was free.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub secure: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// Listens on an address, if it is there now.
async fn bind(address: &ListenAddress) -> io::Result<TcpListener> {
    TcpListener::bind(address.resolve()?).await
}

/// What all connections share.
#[derive(Clone)]
pub struct Site {
    router: Router,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    seats: Arc<Seats>,
    log_limiter: Arc<LogRateLimiter>,
}

impl Site {
    /// What is served, to so many connections at once.
    pub fn new(
        router: Router,
        shutdown: Shutdown,
        metrics: Arc<Metrics>,
        max_connections: usize,
    ) -> Self {
        Self {
            router,
            shutdown,
            seats: Seats::new(max_connections, metrics.clone()),
            metrics,
            log_limiter: Arc::default(),
        }
    }
}

/// Sockets, open or to be opened.
pub struct Listeners(Vec<Listener>);

struct Listener {
    address: ListenAddress,
    door: Door,
    /// None while it cannot be opened.
    socket: Option<TcpListener>,
}

impl Listeners {
    /// Opens those that are loopback, or none; of the others those that can be opened.
    pub async fn open(
        doors: impl IntoIterator<Item = (ListenAddress, Door)>,
    ) -> Result<Self, ListenError> {
        let mut listeners = Vec::new();
        for (address, door) in doors {
            let socket = match bind(&address).await {
                Ok(socket) => Some(socket),
                Err(source) if addresses::is_local(&address) => {
                    return Err(ListenError { address, source });
                }
                Err(error) => {
                    tracing::warn!(
                        %address,
                        %error,
                        "cannot listen there yet; it is tried again in the background until it works"
                    );
                    None
                }
            };
            listeners.push(Listener {
                address,
                door,
                socket,
            });
        }
        Ok(Self(listeners))
    }

    /// Those that are open.
    pub fn endpoints(&self) -> io::Result<Vec<Endpoint>> {
        let open = self.0.iter();
        open.filter_map(|listener| Some((listener, listener.socket.as_ref()?)))
            .map(|(listener, socket)| {
                Ok(Endpoint {
                    address: socket.local_addr()?,
                    secure: matches!(listener.door, Door::Tls(_)),
                })
            })
            .collect()
    }

    /// Serves until the server drains and the last connection is closed: one task for each listener.
    pub fn serve(self, site: &Site) -> JoinSet<()> {
        let tasks = self.0.into_iter();
        tasks
            .map(|listener| accept::run(listener, site.clone()))
            .collect()
    }
}
