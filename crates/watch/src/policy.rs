//! When a watchdog alerts: the keys of `[watch.NAME]` that the loop itself uses.

use std::time::Duration;

use sanctum_config::fleet::Watch;

/// When a watchdog alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Misses in a row before it alerts; 1 by default.
    pub misses: u32,
    /// How long an open condition does not alert again; 4 hours by default. A condition that opens again after a
    /// "recovered" alerts at once: the operator believes that all is well.
    pub cooldown: Duration,
    /// How long a target may be busy without one answer before it alerts; 2 hours.
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
