//! Runs the real `sanctum-server` under test: builds it, starts it as a process, sends it requests, reads its log, stops it.
//!
//! [`Server`] is a server that is ready; [`Process`] is one that may fail to start, which some tests expect. [`Http`]
//! sends any request and shows any response, where a client library would refuse to send an invalid request. Their
//! output is parsed with [`Metrics`] and [`Chunks`].
//!
//! Nothing here sleeps: a test waits for a log line, a page or an exit, and a time limit turns an event that never comes
//! into a failure that shows the server's log.

mod binary;
#[cfg(target_os = "linux")]
mod black_hole;
mod damage;
mod fleet;
pub mod host;
mod hostile;
mod http;
mod metrics;
#[cfg(target_os = "linux")]
mod outside;
mod process;
mod raw;
pub mod receiver;
mod report;
mod server;
mod skipped;

pub use binary::{find as find_program, of as program};
#[cfg(target_os = "linux")]
pub use black_hole::BlackHole;
pub use damage::{SCALES, WeightByte, flip_a_bit};
pub use fleet::Fleet;
pub use hostile::Hostile;
pub use http::{Answer, Chunk, Chunks, Http};
pub use metrics::Metrics;
#[cfg(target_os = "linux")]
pub use outside::{Outside, ip};
pub use process::{Ended, Process};
pub use raw::Raw;
pub use report::{Limit, Report};
pub use rustix::process::Signal;
pub use server::Server;
pub use skipped::skipped;

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

/// The time limit of every wait: a minute, far longer than any of them takes. `SANCTUM_PATIENCE` gives other seconds, for
/// benchmarks of models that take longer to load.
pub fn patience() -> Duration {
    static PATIENCE: OnceLock<Duration> = OnceLock::new();
    *PATIENCE.get_or_init(|| {
        let given = std::env::var("SANCTUM_PATIENCE").ok();
        let seconds = given.map(|text| text.parse().expect("SANCTUM_PATIENCE is whole seconds"));
        Duration::from_secs(seconds.unwrap_or(60))
    })
}

/// Waits for `future`.
///
/// # Panics
/// When it takes longer than [`patience`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(patience(), future)
        .await
        .unwrap_or_else(|_| panic!("waited {} s for {what}", patience().as_secs()))
}
