//! Who is at the other end of a connection: what the listeners know and the gate asks.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection, put into every request's extensions by the listener that accepted it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's own address; nothing that a client writes can change it.
    pub address: SocketAddr,
    /// Whom its certificate names; none on plain listeners.
    pub identity: Option<Identity>,
}

/// A client that a certificate of our CA names.
#[derive(Clone)]
pub struct Identity {
    name: Arc<str>,
    trusted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Identity {
    /// A client by the common name of its certificate; `trusted` says whether that certificate would still be
    /// accepted now.
    pub fn new(
        name: impl Into<Arc<str>>,
        trusted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            trusted: Arc::new(trusted),
        }
    }

    /// The common name of the certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the certificate would be accepted now: neither revoked nor expired since the connection was made.
    pub fn is_trusted(&self) -> bool {
        (self.trusted)()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.name).finish()
    }
}
