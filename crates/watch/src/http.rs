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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;
    use crate::probe::plain_tls;

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
        let client = client(Some(plain_tls()), Duration::from_secs(10)).unwrap();
        for status in [301, 302, 307, 308] {
            let url = format!("http://{address}/{status}");
            let answer = client.get(url).send().await.unwrap();
            assert_eq!(answer.status(), status);
        }
    }
}
