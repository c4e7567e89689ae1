//! The sockets: opened before anything is loaded, served until the server drains.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::peer::Peer;
use crate::shutdown::Shutdown;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", mend(.source))]
pub struct ListenError {
    address: SocketAddr,
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

/// Open sockets, all of them.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Opens all of them or none.
    pub async fn open(addresses: &[SocketAddr]) -> Result<Self, ListenError> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for &address in addresses {
            let at = |source| ListenError { address, source };
            listeners.push(TcpListener::bind(address).await.map_err(at)?);
        }
        Ok(Self(listeners))
    }

    /// Where they listen; a port of 0 has become the one that was free.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(TcpListener::local_addr).collect()
    }

    /// Serves until the server drains and the last connection is closed.
    pub fn serve(self, router: &Router, shutdown: &Shutdown) -> JoinSet<io::Result<()>> {
        let mut serving = JoinSet::new();
        for listener in self.0 {
            // A token is a small packet, and Nagle's algorithm would keep it back.
            let listener = listener.tap_io(|socket| {
                let _ = socket.set_nodelay(true);
            });
            let router = router.clone().layer(middleware::from_fn(introduce));
            let router = router.into_make_service_with_connect_info::<SocketAddr>();
            let shutdown = shutdown.clone();
            serving.spawn(async move {
                axum::serve(listener, router)
                    .with_graceful_shutdown(async move { shutdown.draining().await })
                    .await
            });
        }
        serving
    }
}

/// Tells the gate who is at the other end.
async fn introduce(
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let identity = None;
    request.extensions_mut().insert(Peer { address, identity });
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_the_mend() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = Listeners::open(&[free]).await.unwrap();
        let taken = first.addresses().unwrap();
        let error = Listeners::open(&taken).await.unwrap_err().to_string();
        assert!(error.contains(&taken[0].to_string()), "{error}");
        assert!(error.contains("--port"), "{error}");
    }
}
