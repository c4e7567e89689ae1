//! The keys of the guardian's section that decide when it restarts.

use std::time::Duration;

use chrono::TimeDelta;
use sanctum_config::fleet::Watch;

/// When the guardian restarts a server.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// Rounds without an answer in a row after which a server is dead.
    pub misses: u32,
    /// Work without progress for this long means that the server is hung.
    pub stall_after: TimeDelta,
    /// A process younger than this is starting.
    pub startup_grace: TimeDelta,
    /// The restart budget. After this many restarts within an hour, or within one outage, there are no more until the
    /// budget is restored: see [`crate::history::ServerHistory::spent`].
    pub restarts_per_hour: usize,
}

impl RestartPolicy {
    /// The policy of a `[watch.NAME]`.
    ///
    /// # Errors
    /// If a time is too long.
    pub fn of(watch: &Watch) -> Result<Self, String> {
        let time = |key: &str, given: Option<Duration>, default| match given {
            None => Ok(default),
            Some(given) => TimeDelta::from_std(given)
                .map_err(|_| format!("`{key}` is too long; write a shorter time")),
        };
        Ok(Self {
            misses: watch.misses.unwrap_or(3).max(1),
            stall_after: time("stall_after", watch.stall_after, TimeDelta::seconds(120))?,
            startup_grace: time(
                "startup_grace",
                watch.startup_grace,
                TimeDelta::seconds(180),
            )?,
            restarts_per_hour: watch.restarts_per_hour.unwrap_or(4) as usize,
        })
    }
}
