//! Waiting for a server: until it is ready, until it fails, or until the time that the operator gave is over.

use std::thread::sleep;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::Error;
use crate::server_probe::{ServerProbe, ServerState};

/// Between two probes.
const PAUSE: Duration = Duration::from_millis(250);

/// A wait with its limit. Progress is shown on a terminal, and not at all if standard error is not a terminal.
pub(crate) struct Wait {
    begun: Instant,
    limit: Duration,
    bar: ProgressBar,
}

impl Wait {
    /// Begins to wait for `limit` at most.
    pub(crate) fn new(limit: Duration) -> Self {
        // Draws on standard error, and only if that is a terminal.
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

    /// Shows what the command waits for.
    pub(crate) fn show(&self, what: &str) {
        let limit = self.limit.as_secs();
        self.bar.set_message(format!("{what} (at most {limit} s)"));
    }

    /// Runs `print`, which writes to the terminal, while the progress is hidden.
    pub(crate) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }

    /// Waits until a server is ready, and returns how long that took. `check` is called before each probe: it returns
    /// whether an answer counts, or fails if the server cannot become ready any more.
    ///
    /// # Errors
    /// The error of `check`; or that the server was not ready within the limit, with `log` at the end.
    pub(crate) fn until_ready(
        &self,
        what: &str,
        probe: &ServerProbe,
        mut check: impl FnMut() -> Result<bool, Error>,
        log: impl Fn() -> String,
    ) -> Result<Duration, Error> {
        loop {
            let counts = check()?;
            let state = probe.state(self.left());
            if counts && state == ServerState::Ready {
                return Ok(self.begun.elapsed());
            }
            if self.left().is_zero() {
                let limit = self.limit.as_secs();
                return Err(Error::refused(format!(
                    "{what} was not ready after {limit} s (--patience): {state}{}",
                    log()
                )));
            }
            self.show(&format!("{what}: {state}"));
            sleep(PAUSE.min(self.left()));
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
