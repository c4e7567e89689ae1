//! Why a request has no usable response.

use std::error::Error;
use std::time::Duration;

use sanctum_config::UntrustedText;

use crate::credentials::CredentialsError;

/// A request without the response that it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// The requested URL.
        url: String,
        /// The cause.
        why: String,
        /// The host answered that no program accepts connections there.
        is_refused: bool,
    },
    /// A connection, and no response in time.
    #[error("{url} gave no answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// The requested URL.
        url: String,
        /// The client's time limit.
        limit: Duration,
    },
    /// 429: the server's queue is full.
    #[error("{url} has no room for another request (429)")]
    Busy {
        /// The requested URL.
        url: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 401 or 403.
    #[error("{url} does not accept the credentials ({status})")]
    Denied {
        /// The requested URL.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// Another status than 2xx.
    #[error("{url} answered {status}: {body}")]
    Status {
        /// The requested URL.
        url: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// A response that is not in the expected format.
    #[error("{url} sent an unexpected response: {why}")]
    Format {
        /// The requested URL.
        url: String,
        /// The difference.
        why: String,
    },
    /// The caller's own token or certificate cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl ClientError {
    /// Whether the server responded, though not as expected.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. } | Self::Denied { .. } | Self::Status { .. } | Self::Format { .. }
        )
    }

    /// The HTTP status of an error response.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Busy { .. } => Some(429),
            Self::Denied { status, .. } | Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The innermost cause of an error, on one line that is safe to show. The outer errors of an HTTP client (`client error
/// (Connect)`) do not help an operator.
pub fn root_cause(mut error: &dyn Error) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    // Some quote the names in a certificate.
    UntrustedText::new(&error.to_string()).into()
}
