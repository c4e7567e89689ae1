//! The one constructor of HTTP clients.
//!
//! No client follows a redirect: a probe is about the server that it asks, and an alert that was sent elsewhere, or
//! fetched with GET after a 302, has not been delivered. No client uses a proxy of the environment. clippy.toml refuses
//! every other way to make one.

use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::ClientConfig;

/// How long a connection may take; the limit of the whole call overrides it where that is shorter.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// A client whose calls take `limit` at most. Without `tls` it trusts the authorities of the system.
///
/// # Errors
/// If the authorities of the system cannot be loaded.
#[allow(clippy::disallowed_methods, reason = "this is the one constructor")]
pub(crate) fn client(tls: Option<ClientConfig>, limit: Duration) -> Result<Client, reqwest::Error> {
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT.min(limit))
        .timeout(limit)
        .user_agent(concat!("sanctum-watch/", env!("CARGO_PKG_VERSION")));
    match tls {
        Some(tls) => client.tls_backend_preconfigured(tls).build(),
        None => {
            // There is one already from the second client on.
            let _ = rustls::crypto::ring::default_provider().install_default();
            client.build()
        }
    }
}
