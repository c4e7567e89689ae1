//! The one constructor of HTTP clients in the workspace.
//!
//! No client follows a redirect: a health check is about the server that it asks, and an alert that was sent to another
//! address, or fetched with GET after a 302, has not been delivered. No client uses a proxy of the environment. clippy.toml
//! refuses every other constructor.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use rustls::client::WantsClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

/// The time limit of a connection; the limit of the whole request overrides it where that is shorter.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// A client whose requests take `limit` at most. Without `tls` it trusts the system's certificate authorities.
///
/// # Errors
/// If the system's certificate authorities cannot be loaded.
#[allow(clippy::disallowed_methods, reason = "this is the one constructor")]
pub fn client(tls: Option<ClientConfig>, limit: Duration) -> Result<Client, reqwest::Error> {
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT.min(limit))
        .timeout(limit)
        .user_agent(concat!("sanctum/", env!("CARGO_PKG_VERSION")));
    match tls {
        Some(tls) => client.tls_backend_preconfigured(tls).build(),
        None => {
            // An error means that a provider is installed already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            client.build()
        }
    }
}

/// Builds a client whose connections take `connect` at most, and whose responses may take any time: those of a model are
/// streamed for minutes.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the one other constructor"
)]
pub(crate) fn streaming(tls: ClientConfig, connect: Duration) -> ClientBuilder {
    Client::builder()
        // Below the 75 s after which sanctum-server closes an idle connection.
        .pool_idle_timeout(Duration::from_secs(60))
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(connect)
        .http1_only()
        .user_agent(concat!("sanctum/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
}

/// TLS for clients that connect over plain HTTP only: it trusts no certificate, and does not load the system's authorities.
pub fn no_tls() -> ClientConfig {
    tls(RootCertStore::empty()).with_no_client_auth()
}

/// TLS for a server outside of the fleet, which trusts only the certificate authorities in `pem`.
///
/// # Errors
/// If there is none in it, or one cannot be used: the reason.
pub fn trusting(pem: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(pem) {
        let authority = authority.map_err(|error| format!("it is not PEM: {error}"))?;
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it has no PEM certificate".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

/// TLS 1.3 that trusts these authorities.
pub(crate) fn tls(roots: RootCertStore) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has the suites of TLS 1.3")
        .with_root_certificates(roots)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn client_never_follows_a_redirect() {
        let redirect = |status: StatusCode| get(async move || (status, [("location", "/")]));
        let router = Router::new()
            .route("/", get(async || StatusCode::OK))
            .route("/301", redirect(StatusCode::MOVED_PERMANENTLY))
            .route("/302", redirect(StatusCode::FOUND))
            .route("/307", redirect(StatusCode::TEMPORARY_REDIRECT))
            .route("/308", redirect(StatusCode::PERMANENT_REDIRECT));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = client(Some(no_tls()), Duration::from_secs(10)).unwrap();
        for status in [301, 302, 307, 308] {
            let url = format!("http://{address}/{status}");
            let response = client.get(url).send().await.unwrap();
            assert_eq!(response.status(), status);
        }
    }
}
