//! TLS with client certificates: which clients are accepted, decided before the first byte of HTTP.
//!
//! - TLS 1.3 only, the ring provider, ALPN `http/1.1`, no resumption of any kind: every connection shows a certificate.
//! - A client's certificate must chain to a CA of `ca.crt`, be valid now, be issued for clients, not be in the list of
//!   revoked certificates (`ca.crl`) of its CA, and have a common name that can be written into a log ([`name`]).
//! - All four files are checked every second and read again when they change ([`TlsServer::follow`]). Files that cannot be used
//!   are reported as an error, and those that were read last stay in force.
//! - A connection keeps the certificates with which it was made, but its client's certificate is verified again with the
//!   newest files before each request ([`Identity::is_trusted`](crate::peer::Identity::is_trusted)).
//!
//! **Revocation.** A CA whose list is in `ca.crl` has its clients checked against it. For a CA without a list nothing
//! is revoked (the log warns of it at start): an overlap of two CAs works without a list of the new one. A list past its
//! `nextUpdate` stays in force, and an error is logged every hour until there is a newer one: refusing every client because
//! a list was not renewed would turn a forgotten chore into an outage, while revoked clients stay revoked either way.

mod clients;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod handshake_error;
mod live;
mod material;
mod name;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use files::{CrlPath, TlsError, TlsFiles};
pub(crate) use handshake_error::HandshakeError;
pub(crate) use live::TlsServer;
