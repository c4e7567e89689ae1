//! How the disk of a cache folder fares, readable by any thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two log lines about files that the system refuses: a disk that fails does so for each of them.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How the disk of a cache folder fares.
#[derive(Debug, Default)]
pub(crate) struct ColdStatus {
    errors: AtomicU64,
    log: Mutex<FailureLog>,
}

/// Which failures are logged.
#[derive(Debug, Default)]
struct FailureLog {
    last: Option<Instant>,
    /// Failures since then.
    left_out: u64,
}

impl ColdStatus {
    /// Operations that the system refused since the start.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Counts operations that the system refused.
    pub(super) fn count(&self, errors: u64) {
        self.errors.fetch_add(errors, Relaxed);
    }

    /// Counts an operation that the system refused. Whether to log it, and if so how many were not logged since the last line.
    pub(super) fn failed(&self) -> Option<u64> {
        self.count(1);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.permit(Instant::now())
    }
}

impl FailureLog {
    fn permit(&mut self, now: Instant) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now.duration_since(last) < LOG_EVERY)
        {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_in_a_minute_is_logged_and_all_are_counted() {
        let mut log = FailureLog::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let logged = [0, 1, 59, 60, 61, 200].map(|seconds| log.permit(at(seconds)));
        assert_eq!(logged, [Some(0), None, None, Some(2), None, Some(1)]);
        let status = ColdStatus::default();
        assert_eq!((status.failed(), status.failed()), (Some(0), None));
        assert_eq!(status.errors(), 2);
    }
}
