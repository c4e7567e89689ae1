//! What a listener knows of a request: the other end of its connection, and how its body fails.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The other end of a connection. The listener that accepted it puts it into the extensions of every request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The socket's own address; nothing that a client writes can change it.
    pub address: SocketAddr,
    /// The client that its certificate names; none on plain listeners.
    pub identity: Option<Identity>,
}

/// A client that a certificate of an accepted CA names.
#[derive(Clone)]
pub(crate) struct Identity {
    name: Arc<str>,
    trusted: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Why the body of a request ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    /// It took longer than its limit.
    #[error("did not arrive within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The connection failed, or what arrived is not HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

impl Identity {
    /// A client by the common name of its certificate; `trusted` returns whether that certificate would still be
    /// accepted now.
    pub(crate) fn new(
        name: impl Into<Arc<str>>,
        trusted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            trusted: Arc::new(trusted),
        }
    }

    /// The common name of the certificate.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the certificate would be accepted now: it was neither revoked nor has it expired since the connection was
    /// made.
    pub(crate) fn is_trusted(&self) -> bool {
        (self.trusted)()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.name).finish()
    }
}
