//! The sockets: opened before anything is loaded, served until the server drains.
//!
//! **Binds.** At least one address must be loopback or include it ([`addresses`]), and binding it must succeed at the
//! start: without it the server does not start. Other addresses may come later (a VPN's, an interface that is plugged
//! in): binding them is retried in the background. A socket that was bound is kept, whatever becomes of its interface.
//!
//! **Connections.** Each is a task of its own ([`connection`]) with a permit ([`connection_limit`]); each phase of it has
//! a time limit ([`phase`]):
//!
//! | Phase | Limit |
//! |---|---|
//! | TLS handshake | 10 s |
//! | head of a request | 10 s, 16 KiB, 64 fields |
//! | body of a request | 30 s, 16 MiB |
//! | response | none while the client reads something every 120 s |
//! | silence between requests | 75 s |
//!
//! The listeners know nothing of what a request may do once its head is read. They put the address and the certificate
//! that it came with into its extensions, as a [`Peer`](crate::peer::Peer).

mod accept;
pub(crate) mod addresses;
mod connection;
mod connection_limit;
mod http_server;
mod listeners;
mod log_rate_limiter;
mod phase;
#[cfg(test)]
mod tests;
mod timed_io;
mod transport;

pub(crate) use http_server::HttpServer;
pub(crate) use listeners::{ListenError, Listeners};
pub(crate) use transport::{BoundAddress, Transport};
