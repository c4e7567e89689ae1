//! Why the gate refuses a request. Messages never repeat credentials that were presented and always say how to be accepted.

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The listener did not record who sent it.
    #[error(
        "the server does not know who sent this request; that is a defect of the server, report it"
    )]
    NoPeer,
    /// No `Host`, or several.
    #[error("a request names its host once; send one Host header")]
    NotOneHost,
    /// Its certificate was revoked or has expired since the connection was made.
    #[error(
        "this client's certificate is not accepted any more; issue a new one: sanctum-pki renew, or client NAME"
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
        "send the header `Authorization: Bearer TOKEN`; TOKEN is the content of {file} on the server's host"
    )]
    TokenMissing {
        /// As the operator wrote it.
        file: String,
    },
    /// The `Authorization` header is not `Bearer` and a token, or there are several.
    #[error(
        "the Authorization header must be sent once and be `Bearer TOKEN`; TOKEN is the content of {file} on the server's \
         host"
    )]
    TokenMalformed {
        /// As the operator wrote it.
        file: String,
    },
    /// Another token was sent.
    #[error(
        "the bearer token is not the one that {file} on the server's host contains now; read it there again"
    )]
    TokenWrong {
        /// As the operator wrote it.
        file: String,
    },
    /// Over loopback, and the host is not this machine's.
    #[error(
        "the Host header names `{host}`, which is not this machine, as when a web page has tricked a browser into a request to \
         it; use http://127.0.0.1 or http://localhost, or send the bearer token. If programs reach this machine by that \
         name, as containers do by host.docker.internal, start the server with --allow-host NAME, or add it to \
         `allow_hosts` in fleet.toml"
    )]
    ForeignHost {
        /// As an error message may show it.
        host: String,
    },
    /// Over loopback, from a script in a browser.
    #[error(
        "the request has an Origin header, as a web page's script sends it, and this server does not list that origin; send \
         the bearer token, or start the server with --allow-origin ORIGIN (`allow_origins` in fleet.toml)"
    )]
    Origin,
    /// Over loopback, and the body is what a form in a browser can send.
    #[error(
        "the body must be JSON; send the header Content-Type: application/json once, or the bearer token"
    )]
    NotJson,
    /// The client has as many requests running as it may have.
    #[error(
        "this client has {limit} requests running already, as many as --max-requests-per-client allows; let one end"
    )]
    TooMany {
        /// As many.
        limit: usize,
    },
}

impl Refusal {
    /// Whether nothing is missing but the right token.
    pub(crate) fn is_about_the_token(&self) -> bool {
        matches!(
            self,
            Self::TokenMissing { .. } | Self::TokenMalformed { .. } | Self::TokenWrong { .. }
        )
    }

    /// A label for metrics and the audit log.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoPeer => "no_peer",
            Self::NotOneHost => "not_one_host",
            Self::Certificate => "certificate",
            Self::NoTokenHere => "no_token_here",
            Self::TokenMissing { .. } => "token_missing",
            Self::TokenMalformed { .. } => "token_malformed",
            Self::TokenWrong { .. } => "token_wrong",
            Self::ForeignHost { .. } => "foreign_host",
            Self::Origin => "origin",
            Self::NotJson => "not_json",
            Self::TooMany { .. } => "too_many",
        }
    }
}
