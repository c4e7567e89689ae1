//! How patient a watchdog is: the keys of `[watch.NAME]` that the loop itself uses.

use std::time::Duration;

use sanctum_config::fleet::Watch;

/// How patient a watchdog is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Misses in a row before it alerts; 1 unless said otherwise.
    pub misses: u32,
    /// How long it keeps quiet about the same outage after an alert; 4 hours unless said otherwise. A new outage
    /// after a "recovered" is told of at once, however soon: who heard that all is well must not be left believing it.
    pub cooldown: Duration,
    /// How long a target may be busy without one answer before a human is told; 2 hours.
    pub busy_for: Duration,
}

impl Policy {
    /// The policy of a `[watch.NAME]`.
    pub fn of(watch: &Watch) -> Self {
        Self {
            misses: watch.misses.unwrap_or(1).max(1),
            cooldown: watch.cooldown.unwrap_or(Duration::from_secs(4 * 3600)),
            busy_for: Duration::from_secs(2 * 3600),
        }
    }
}
