//! What the operator configures of a model's upstreams.

use std::net::SocketAddr;
use std::time::Duration;

use sanctum_client::Credentials;
use sanctum_config::{ModelAlias, ModelId};

/// A model whose requests go to other servers, after the local model if there is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FrontSpec {
    /// The id that requests name it by.
    pub id: ModelId,
    /// Other names by which requests may name it.
    pub aliases: Vec<ModelAlias>,
    /// Whether this server has the model too, and asks itself first.
    pub is_local: bool,
    /// In the order in which they are tried; at least one.
    pub upstreams: Vec<UpstreamSpec>,
}

/// Another server with the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpstreamSpec {
    /// Names it in logs, headers and metrics: the host and port of its URL, or what fleet.toml calls it.
    pub name: String,
    /// Its base URL, without `/v1`.
    pub base: String,
    /// The model's id there, if it is another one.
    pub model: Option<String>,
    /// What this server presents there.
    pub credentials: Credentials,
    /// How long a connection may take.
    pub connect: Duration,
    /// How long the first byte of a response may take.
    pub first_byte: Duration,
}

impl UpstreamSpec {
    /// Whether its URL names an address that this server listens on: requests would come back. Names of hosts are not resolved.
    pub(crate) fn is_at(&self, bound: SocketAddr) -> bool {
        let (_, authority) = self.base.split_once("://").unwrap_or_default();
        let loopback = authority.strip_prefix("localhost:");
        let loopback = loopback.map(|port| format!("127.0.0.1:{port}"));
        let address = loopback.as_deref().unwrap_or(authority);
        address.parse().is_ok_and(|address: SocketAddr| {
            let (ip, own) = (address.ip().to_canonical(), bound.ip().to_canonical());
            let is_own = ip == own || (own.is_unspecified() && ip.is_loopback());
            is_own && address.port() == bound.port()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_at_an_address_of_this_server_is_recognized() {
        for (base, bound, is_own) in [
            ("http://127.0.0.1:1337", "127.0.0.1:1337", true),
            ("http://localhost:1337", "127.0.0.1:1337", true),
            ("https://192.0.2.1:1338", "192.0.2.1:1338", true),
            ("http://127.0.0.1:1337", "0.0.0.0:1337", true),
            ("http://[::1]:1337", "[::]:1337", true),
            ("http://127.0.0.1:1338", "127.0.0.1:1337", false),
            ("http://192.0.2.2:1337", "192.0.2.1:1337", false),
            ("http://192.0.2.2:1337", "0.0.0.0:1337", false),
            ("http://studio:1337", "127.0.0.1:1337", false),
        ] {
            let spec = UpstreamSpec {
                name: "studio".into(),
                base: base.into(),
                model: None,
                credentials: Credentials::None,
                connect: Duration::ZERO,
                first_byte: Duration::ZERO,
            };
            assert_eq!(spec.is_at(bound.parse().unwrap()), is_own, "{base} {bound}");
        }
    }
}
