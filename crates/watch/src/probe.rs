//! Looking at a server over HTTP, as fleet.toml says that this watchdog reaches it.
//!
//! A watchdog on the server's own host uses the loopback address and needs no credentials there. From elsewhere it
//! uses mTLS where the server listens for it and this watchdog has a certificate, else plain HTTP with the token.

mod client;
mod credentials;
mod health;
mod liveness;
mod no_route;
mod route;

use std::error::Error;
use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;

pub use client::{Answer, Client, Message, ProbeError, Question, Timed};
pub use credentials::CredentialsError;
pub(crate) use credentials::plain_tls;
pub use health::{Beat, Health, PREPARATION, Phase};
pub use liveness::Liveness;
pub use route::{Access, Target, TargetError};

/// A `reference` that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`reference = \"{0}\"` is no address; write one such as \"https://100.64.0.1\"")]
pub struct BadReference(String);

/// An address that answers whenever this host is on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    host: String,
    port: u16,
}

impl Reference {
    /// Parses a URL; only its host and port matter.
    ///
    /// # Errors
    /// If it has neither.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        let bad = || BadReference(text.to_owned());
        let url = Url::parse(text).map_err(|_| bad())?;
        let host = url.host_str().ok_or_else(bad)?;
        let port = url.port_or_known_default().ok_or_else(bad)?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }

    /// Whether it answers within `timeout`. A refused connection is an answer: somebody refused it.
    pub async fn answers(&self, timeout: Duration) -> bool {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        match tokio::time::timeout(timeout, connect).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            Err(_) => false,
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} port {}", self.host, self.port)
    }
}

/// What an error comes from, in a line that fits on a screen: what lies around it (`client error (Connect)`) tells nobody
/// anything.
pub(crate) fn said(mut error: &dyn Error) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    // A certificate's names stand in some of them.
    sanctum_config::UntrustedText::new(&error.to_string()).into()
}
