//! `reference` in fleet.toml: an address that distinguishes a server that is down from a caller that is offline.

use std::io::ErrorKind;
use std::time::Duration;

use reqwest::Url;
use tokio::net::TcpStream;

/// A `reference` that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`reference = \"{0}\"` is not an address; write one such as \"https://192.0.2.1\"")]
pub struct BadReference(String);

/// An address that accepts connections whenever this host is on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceAddress {
    host: String,
    port: u16,
}

impl ReferenceAddress {
    /// Parses a URL; only its host and port matter.
    ///
    /// # Errors
    /// If it has neither.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        let bad = || BadReference(text.to_owned());
        let url = Url::parse(text).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad());
        }
        let host = url.host_str().ok_or_else(bad)?;
        let port = url.port_or_known_default().ok_or_else(bad)?;
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }

    /// Whether the address answers within `timeout`. A refused connection is an answer: the network is up.
    pub async fn answers(&self, timeout: Duration) -> bool {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        match tokio::time::timeout(timeout, connect).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
            Err(_) => false,
        }
    }
}

impl std::fmt::Display for ReferenceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} port {}", self.host, self.port)
    }
}
