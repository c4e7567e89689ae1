//! How the disk of a cache folder fares, readable by any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::ColdError;

/// Between two log lines about files that the system refuses: a disk that fails does so for each of them.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How the disk of a cache folder fares.
#[derive(Debug, Default)]
pub(crate) struct ColdStatus {
    errors: AtomicU64,
    log: Mutex<FailureLog>,
    /// Present while nothing is written, because a file could not be.
    pause: Mutex<Option<WritePause>>,
    /// Whether no file was written since one could not be.
    has_failed: AtomicBool,
}

/// Why nothing is written at present.
#[derive(Debug)]
struct WritePause {
    problem: String,
    /// The same without any path.
    public_problem: String,
    /// Bytes of the file that could not be written.
    needed: u64,
    /// When it was tried last.
    tried: Instant,
}

/// Which failures are logged.
#[derive(Debug, Default)]
struct FailureLog {
    last: Option<Instant>,
    /// Failures since then.
    left_out: u64,
}

impl ColdStatus {
    /// The status of a folder that cannot be used until a restart; `errors` were counted before.
    pub(crate) fn unusable(error: &ColdError, errors: u64) -> Self {
        let status = Self::default();
        status.count(errors);
        status.pause(error, 0);
        status
    }

    /// Why nothing is written at present; none if files are written.
    pub(crate) fn problem(&self) -> Option<String> {
        let pause = self.paused();
        pause.as_ref().map(|pause| pause.problem.clone())
    }

    /// The same without any path, for readers who may not be authorized to see one.
    pub(crate) fn public_problem(&self) -> Option<String> {
        let pause = self.paused();
        pause.as_ref().map(|pause| pause.public_problem.clone())
    }

    /// How long ago writing was tried last, while it is paused.
    pub(crate) fn tried_ago(&self) -> Option<Duration> {
        self.paused().as_ref().map(|pause| pause.tried.elapsed())
    }

    /// Bytes of the file that could not be written, while writing is paused.
    pub(super) fn needed(&self) -> Option<u64> {
        self.paused().as_ref().map(|pause| pause.needed)
    }

    /// A file of `needed` bytes cannot be written. Returns whether to log that: it is the first since one was written.
    pub(super) fn pause(&self, error: &ColdError, needed: u64) -> bool {
        *self.paused() = Some(WritePause {
            problem: error.to_string(),
            public_problem: error.without_path(),
            needed,
            tried: Instant::now(),
        });
        !self.has_failed.swap(true, Relaxed)
    }

    /// A file may be written again.
    pub(super) fn resume(&self) {
        *self.paused() = None;
    }

    /// A file was written. Returns whether it is the first one since a failure.
    pub(super) fn wrote(&self) -> bool {
        self.has_failed.swap(false, Relaxed)
    }

    fn paused(&self) -> MutexGuard<'_, Option<WritePause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

    #[test]
    fn failure_to_write_is_logged_once_until_a_file_is_written() {
        let status = ColdStatus::default();
        let full = ColdError::WriterEnded {
            folder: "/full".into(),
        };
        let still = ColdError::InUse {
            folder: "/still".into(),
            process: None,
        };
        assert!(!status.wrote());
        assert!(status.pause(&full, 7));
        assert!(!status.pause(&still, 8));
        assert_eq!(status.problem(), Some(still.to_string()));
        assert_eq!(status.public_problem(), Some(still.without_path()));
        assert_eq!(status.needed(), Some(8));
        status.resume();
        assert!(status.problem().is_none() && status.tried_ago().is_none());
        assert!(!status.pause(&full, 7), "none was written");
        status.resume();
        assert!(status.wrote() && !status.wrote());
        assert!(status.pause(&full, 7));
    }
}
