//! TLS with client certificates: who may speak to us, decided before the first byte of HTTP.
//!
//! - TLS 1.3 only, the ring provider, ALPN `http/1.1`, no resumption of any kind: every connection shows a certificate.
//! - A client's certificate must chain to a CA of `ca.crt`, be valid now, be meant for clients, not stand in the list
//!   of revoked certificates (`ca.crl`) of its CA, and have a common name that can be written into a log ([`name`]).
//! - All four files are looked at every second and read again when they change ([`Tls::follow`]). What cannot be used
//!   is refused, loudly, and what was read last stays in force.
//! - A connection keeps the certificates with which it was made, but what its client showed is judged again by the
//!   newest files before each request ([`Identity::is_trusted`](crate::peer::Identity::is_trusted)).
//!
//! **Revocation.** A CA whose list is in `ca.crl` has its clients checked against it. For a CA without a list nothing
//! is revoked (which is said at start): an overlap of two CAs works without a list of the new one. A list past its
//! `nextUpdate` stays in force, and an error is logged every hour until there is a newer one: refusing everybody
//! because nobody renewed a list would turn a forgotten chore into an outage at night, while those who are revoked stay
//! so either way.

mod clients;
mod files;
mod live;
mod material;
mod name;
mod refusal;
#[cfg(test)]
pub mod tests;

pub use files::{Crl, TlsError, TlsFiles};
pub use live::Tls;
pub use refusal::Refusal;
