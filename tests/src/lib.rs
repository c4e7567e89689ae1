//! The real `sanctum-server` under test: built, started as a process of its own, watched, asked, ended.
//!
//! [`Server`] is a server that is ready; [`Process`] is one that may never be, because a test wants to see how it
//! fails. [`Http`] speaks to it without any idea of what is right, where a client library would refuse to send the
//! wrong thing or to show what came back. What both say is read with [`Metrics`] and [`Chunks`].
//!
//! Nothing here sleeps: whoever waits, waits for a log line, a page or an exit, and a limit turns what never comes into
//! a failure that shows the server's log.

mod binary;
mod fleet;
mod hostile;
mod http;
mod metrics;
#[cfg(target_os = "linux")]
mod outside;
mod process;
mod raw;
mod server;
mod skipped;

pub use binary::{find as find_program, of as program};
pub use fleet::Fleet;
pub use hostile::Hostile;
pub use http::{Answer, Chunk, Chunks, Http};
pub use metrics::Metrics;
#[cfg(target_os = "linux")]
pub use outside::{Outside, ip};
pub use process::{Ended, Process};
pub use raw::Raw;
pub use rustix::process::Signal;
pub use server::Server;
pub use skipped::skipped;

use std::future::Future;
use std::time::Duration;

/// How long anything may take before a test gives it up: far longer than it ever does.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited {} s for {what}", PATIENCE.as_secs()))
}
