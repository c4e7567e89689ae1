//! How clients connect to an address.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use sanctum_config::ListenAddress;
use tokio::net::TcpListener;

use crate::tls::TlsServer;

/// What is spoken on a connection.
#[derive(Clone)]
pub(crate) enum Transport {
    /// HTTP.
    Plain,
    /// HTTP over TLS, with a client certificate.
    Tls(Arc<TlsServer>),
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BoundAddress {
    /// The address; a port of 0 has become the free port that was taken.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub secure: bool,
}

impl Transport {
    /// Whether it is TLS.
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// Listens on an address, if this machine has it now.
pub(crate) async fn bind(address: &ListenAddress) -> io::Result<TcpListener> {
    TcpListener::bind(address.resolve()?).await
}
