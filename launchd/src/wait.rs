//! How long a command waits: the limit that the command line gives, counted from when the waiting begins.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A wait with its limit, shown on a terminal while it lasts and not at all where standard error is piped.
pub struct Wait {
    begun: Instant,
    limit: Duration,
    bar: ProgressBar,
}

impl Wait {
    /// Begins to wait.
    pub fn new(limit: Duration) -> Self {
        // Drawn on standard error, and only if that is a terminal.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            begun: Instant::now(),
            limit,
            bar,
        }
    }

    /// Says what is waited for.
    pub fn show(&self, what: &str) {
        let limit = self.limit.as_secs();
        self.bar.set_message(format!("{what} (at most {limit} s)"));
    }

    /// How long it has lasted.
    pub fn waited(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long it may last still.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.waited())
    }

    /// Whether the limit is reached.
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// The limit.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
