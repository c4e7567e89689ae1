//! Why a request does not get through the gate, and what its sender is told: never what was presented, always how to
//! be let in.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::error_body;

/// Why a request does not get through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The listener did not say who sent it; nobody is let in on a guess.
    #[error(
        "the server does not know who sent this request; that is a defect of the server, report it"
    )]
    NoPeer,
    /// No `Host`, or several.
    #[error("a request names its host once; send one Host header")]
    NotOneHost,
    /// Its certificate was revoked or has expired since the connection was made.
    #[error(
        "this client's certificate is not accepted any more; make a new one: sanctum-pki renew, or client NAME"
    )]
    Certificate,
    /// A token is needed and there is none to compare with.
    #[error(
        "this server has no bearer token, and without one only this machine itself is served; \
         make one on the server's host with `sanctum-pki token server` and start it with --auth-token-file"
    )]
    NoTokenHere,
    /// A token is needed and none was sent.
    #[error(
        "send the header `Authorization: Bearer TOKEN`; TOKEN is what {file} on the server's host holds"
    )]
    TokenMissing {
        /// As the operator wrote it.
        file: String,
    },
    /// The `Authorization` header is not `Bearer` and a token, or there are several.
    #[error(
        "the Authorization header must be sent once and be `Bearer TOKEN`; TOKEN is what {file} on the server's host \
         holds"
    )]
    TokenMalformed {
        /// As the operator wrote it.
        file: String,
    },
    /// Another token was sent.
    #[error(
        "the bearer token is not the one that {file} on the server's host holds now; read it there again"
    )]
    TokenWrong {
        /// As the operator wrote it.
        file: String,
    },
    /// Over loopback, and the host is not this machine's.
    #[error(
        "the Host header names another machine: what a browser sends when a web page has tricked it into asking this \
         one; ask for http://127.0.0.1 or http://localhost, or send the bearer token"
    )]
    ForeignHost,
    /// Over loopback, from a script in a browser.
    #[error(
        "the request has an Origin header, as a web page's script sends it; programs do not send one, and a page must \
         send the bearer token"
    )]
    Origin,
    /// Over loopback, and the body is what a form in a browser can send.
    #[error(
        "the body must be JSON; send the header Content-Type: application/json once, or the bearer token"
    )]
    NotJson,
    /// The client has as many requests running as it may.
    #[error(
        "this client has {limit} requests running already, as many as --max-requests-per-client allows; let one end"
    )]
    TooMany {
        /// As many.
        limit: usize,
    },
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoPeer => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotOneHost => StatusCode::BAD_REQUEST,
            Self::Certificate
            | Self::NoTokenHere
            | Self::TokenMissing { .. }
            | Self::TokenMalformed { .. }
            | Self::TokenWrong { .. } => StatusCode::UNAUTHORIZED,
            Self::ForeignHost | Self::Origin => StatusCode::FORBIDDEN,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// One word of a fixed set, for metrics and the audit log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPeer => "no_peer",
            Self::NotOneHost => "not_one_host",
            Self::Certificate => "certificate",
            Self::NoTokenHere => "no_token_here",
            Self::TokenMissing { .. } => "token_missing",
            Self::TokenMalformed { .. } => "token_malformed",
            Self::TokenWrong { .. } => "token_wrong",
            Self::ForeignHost => "foreign_host",
            Self::Origin => "origin",
            Self::NotJson => "not_json",
            Self::TooMany { .. } => "too_many",
        }
    }

    /// In OpenAI's words where it has one.
    fn code(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "invalid_api_key",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
            _ => self.reason(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = error_body(status, &self.to_string(), None, Some(self.code()));
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        // Whatever else comes over the connection would be refused as well.
        if matches!(self, Self::Certificate | Self::NoPeer) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
