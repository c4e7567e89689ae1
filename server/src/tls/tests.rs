//! TLS as clients see it, with a CA of the test.

mod files;
mod handshake;
pub(crate) mod pki;
mod reload;
mod revocation;
