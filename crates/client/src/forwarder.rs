//! Passes whole requests on to another server, and their responses back piece by piece.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

pub use reqwest::Response as ForwardedResponse;

use crate::client::failed;
use crate::credentials;
use crate::endpoint::Credentials;
use crate::error::{ClientError, root_cause};
use crate::http;

/// Sends requests to one server. Connections are kept for the next request.
#[derive(Clone, Debug)]
pub struct Forwarder {
    http: reqwest::Client,
    base: String,
    bearer: Option<HeaderValue>,
    connect: Duration,
    first_byte: Duration,
}

impl Forwarder {
    /// For the server at a base URL. A connection may take `connect`, and a response's first byte `first_byte`; the rest of it
    /// may take any time.
    ///
    /// # Errors
    /// If the credentials cannot be used.
    pub fn new(
        base: &str,
        credentials: &Credentials,
        connect: Duration,
        first_byte: Duration,
    ) -> Result<Self, ClientError> {
        let (tls, bearer) = credentials::load(credentials)?;
        let http = http::streaming(tls, connect).map_err(|error| ClientError::Format {
            url: base.to_owned(),
            why: root_cause(&error),
        })?;
        Ok(Self {
            http,
            base: base.to_owned(),
            bearer,
            connect,
            first_byte,
        })
    }

    /// Sends a POST request, and waits for the head of the response and, if that is a success, the first piece of its body; none
    /// if that is empty. An error status is returned at once, without a piece.
    ///
    /// # Errors
    /// If there is no response, or it breaks off before its first byte.
    pub async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<(ForwardedResponse, Option<Vec<u8>>), ClientError> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.post(&url).headers(headers).body(body);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        let begun = async {
            let mut response = request.send().await?;
            if !response.status().is_success() {
                return Ok((response, None));
            }
            let first = response.chunk().await?;
            Ok((response, first.map(|piece| piece.to_vec())))
        };
        match tokio::time::timeout(self.first_byte, begun).await {
            Ok(response) => {
                response.map_err(|error| failed(&url, &error, self.connect, self.first_byte))
            }
            Err(_) => Err(ClientError::Timeout {
                url,
                limit: self.first_byte,
            }),
        }
    }
}
