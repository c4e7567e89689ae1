//! Why a TLS handshake failed, for the log and for `/metrics`.

use std::fmt;
use std::io;

use rustls::{CertificateError, Error};

/// A handshake that failed.
#[derive(Debug)]
pub(crate) struct HandshakeError {
    /// The label in `/metrics`.
    pub reason: &'static str,
    /// The error of rustls.
    detail: String,
}

impl HandshakeError {
    /// From the error that ended the handshake.
    pub(crate) fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        let reason = match tls {
            None => "gone",
            Some(Error::NoCertificatesPresented) => "no_certificate",
            Some(Error::InvalidCertificate(why)) => certificate(why),
            Some(Error::PeerIncompatible(_)) => "incompatible",
            Some(Error::AlertReceived(_)) => "refused_by_client",
            Some(Error::InvalidMessage(_)) => "not_tls",
            Some(_) => "handshake",
        };
        let detail = match (reason, tls) {
            ("bad_name", _) => {
                "the certificate has no common name of 1 to 64 printable ASCII characters".into()
            }
            ("wrong_purpose", _) => {
                "the certificate is not one for clients: its extended key usage does not name clientAuth; issue one \
                 with `sanctum-pki client`"
                    .into()
            }
            (_, Some(tls)) => tls.to_string(),
            (_, None) => error.to_string(),
        };
        Self { reason, detail }
    }

    /// Whether an operator should see it. A client that only connects, as port scanners do, is not worth it.
    pub(crate) fn is_worth_a_warning(&self) -> bool {
        self.reason != "gone"
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

fn certificate(why: &CertificateError) -> &'static str {
    use CertificateError as Why;
    match why {
        Why::Expired | Why::ExpiredContext { .. } => "expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "not_yet_valid",
        Why::UnknownIssuer => "unknown_ca",
        Why::Revoked => "revoked",
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => "wrong_purpose",
        Why::ApplicationVerificationFailure => "bad_name",
        _ => "bad_certificate",
    }
}
