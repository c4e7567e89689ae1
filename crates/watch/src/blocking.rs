//! Blocking work (files that may be on a hung volume, `launchctl`, `ssh`) off the runtime: neither a watchdog's time limit
//! nor SIGTERM waits for it.
//!
//! Each kind of work has one thread at most, so that a volume that hangs for a week does not fill the process. A thread
//! that does not end is left behind; the process may exit without it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};

/// One kind of blocking work. While a call has not ended, no further one is started.
#[derive(Clone, Debug)]
pub struct BlockingTask {
    name: &'static str,
    hint: &'static str,
    running: Arc<Mutex<()>>,
}

/// Blocking work without a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// It takes longer than its limit.
    #[error("{task} did not finish within {} s; {hint}", limit.as_secs())]
    Timeout {
        /// The kind of work.
        task: &'static str,
        /// What to look at.
        hint: &'static str,
        /// Its time limit.
        limit: Duration,
    },
    /// An earlier call has not ended.
    #[error("{task} has not finished since an earlier attempt; {hint}")]
    StillRunning {
        /// The kind of work.
        task: &'static str,
        /// What to look at.
        hint: &'static str,
    },
    /// It panicked; the panic is in the log.
    #[error("{task} failed; see this watchdog's log")]
    Panicked {
        /// The kind of work.
        task: &'static str,
    },
}

impl BlockingTask {
    /// Work with files. `name` is the subject of error messages: "reading the logs".
    pub fn new(name: &'static str) -> Self {
        Self::with_hint(name, "does a volume hang? Run: mount; df")
    }

    /// Other work. `hint` ends the error messages: what an operator should look at.
    pub fn with_hint(name: &'static str, hint: &'static str) -> Self {
        Self {
            name,
            hint,
            running: Arc::default(),
        }
    }

    /// Runs `work` on its own thread and waits for it, for `limit` at most.
    ///
    /// # Errors
    /// If it takes longer, an earlier call has not ended, or it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let Self {
            name: task, hint, ..
        } = *self;
        let Ok(running) = Arc::clone(&self.running).try_lock_owned() else {
            return Err(BlockingError::StillRunning { task, hint });
        };
        let (send, result) = oneshot::channel();
        thread::spawn(move || {
            let result = work();
            drop(running);
            // The receiver is gone if the time limit has passed.
            drop(send.send(result));
        });
        match tokio::time::timeout(limit, result).await {
            Ok(result) => result.map_err(|_| BlockingError::Panicked { task }),
            Err(_) => {
                let error = BlockingError::Timeout { task, hint, limit };
                tracing::error!("{error}");
                Err(error)
            }
        }
    }
}

#[cfg(test)]
impl BlockingTask {
    /// Waits until no call runs.
    pub(crate) async fn finished(&self) {
        drop(self.running.lock().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn work_that_hangs_is_left_after_its_limit_and_not_started_twice() {
        let task = BlockingTask::new("the test");
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let limit = Duration::from_millis(10);
        let hangs = task.run(limit, move || hang.recv()).await;
        assert!(matches!(hangs, Err(BlockingError::Timeout { .. })));
        let second = task.run(LONG, || unreachable!("it is started twice")).await;
        let still = BlockingError::StillRunning {
            task: "the test",
            hint: task.hint,
        };
        assert_eq!(second, Err::<(), _>(still));
        drop(release);
        // The first one ends, and the task can run again.
        task.finished().await;
        assert_eq!(task.run(LONG, || 4).await, Ok(4));
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_can_run_again() {
        let task = BlockingTask::new("the test");
        let panics = task.run(LONG, || assert_eq!(1, 2, "on purpose")).await;
        let panicked = BlockingError::Panicked { task: "the test" };
        assert_eq!(panics, Err(panicked));
        task.finished().await;
        assert_eq!(task.run(LONG, || 4).await, Ok(4));
    }
}
