//! Blocking work on files that may hang: one thread at a time, and a limit on how long a round waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::command::aside;

/// One kind of blocking work. While a call has not ended, no further one is started.
#[derive(Clone, Debug)]
pub struct Background {
    what: &'static str,
    running: Arc<Mutex<()>>,
}

impl Background {
    /// `what` names the work in the log.
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            running: Arc::default(),
        }
    }

    /// Does `work` on a thread of its own and waits `limit` for it. None if it takes longer, which is logged, if an earlier
    /// call has not ended, and if `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let running = Arc::clone(&self.running).try_lock_owned().ok()?;
        let done = aside(move || {
            let done = work();
            drop(running);
            done
        });
        match tokio::time::timeout(limit, done).await {
            Ok(done) => done,
            Err(_) => {
                tracing::error!(
                    "{} has not ended within {} s, and is not started again until it has; does a volume hang? Run: mount; df",
                    self.what,
                    limit.as_secs()
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_hangs_is_left_after_its_limit_and_not_started_twice() {
        let background = Background::new("the test");
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let moment = Duration::from_millis(10);
        let hangs = background.run(moment, move || hang.recv());
        assert_eq!(hangs.await, None);
        let long = Duration::from_secs(60);
        let second = background.run(long, || unreachable!("it is started a second time"));
        assert_eq!(second.await, None::<()>);
        drop(release);
        // The first one ends, and there is room again.
        drop(background.running.lock().await);
        assert_eq!(background.run(long, || 4).await, Some(4));
    }
}
