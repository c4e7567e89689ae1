//! Blocking work on files that may hang: one thread at a time, and a limit on how long a round waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::Mutex;

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

/// Threads of [`aside`] that may run at a time. Work on a hung volume never ends; one thread for each round of a watchdog
/// would fill the process.
const MOST_ASIDE: usize = 8;

/// Does blocking work on a thread of its own: a watchdog that is told to stop meanwhile stops, and leaves it behind. None if
/// `work` panicked, and without a start while [`MOST_ASIDE`] earlier ones have not ended.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    aside_within(&RUNNING, work).await
}

async fn aside_within<T: Send + 'static>(
    running: &'static AtomicUsize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    /// A thread that counts until it ends, by a panic as well.
    struct Counted(&'static AtomicUsize);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
    let counted = Counted(running);
    if running.fetch_add(1, Ordering::AcqRel) >= MOST_ASIDE {
        tracing::error!(
            "{MOST_ASIDE} earlier calls have not ended; does a volume hang? Run: mount; df"
        );
        return None;
    }
    let (done, wait) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let _counted = counted;
        // The receiver may be gone.
        drop(done.send(work()));
    });
    wait.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blocking_work_that_never_ends_takes_a_bounded_number_of_threads() {
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hang = std::sync::Arc::new(std::sync::Mutex::new(hang));
        for _ in 0..MOST_ASIDE {
            let hang = hang.clone();
            let hangs = aside_within(&RUNNING, move || hang.lock().unwrap().recv());
            assert!(
                tokio::time::timeout(Duration::from_millis(1), hangs)
                    .await
                    .is_err()
            );
        }
        assert_eq!(aside_within(&RUNNING, || 4).await, None);
        drop(release);
        // The threads end, and there is room again.
        while RUNNING.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(aside_within(&RUNNING, || 4).await, Some(4));
        let panics = aside_within(&RUNNING, || assert_eq!(1, 2, "on purpose"));
        assert_eq!(panics.await, None);
        assert_eq!(RUNNING.load(Ordering::Acquire), 0);
    }

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
