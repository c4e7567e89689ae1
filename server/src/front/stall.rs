//! Finds an upstream that has stopped answering while requests wait for their first byte. The regular probes need several
//! seconds for that, because they also judge programs that answer late while they compute.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long a request waits before the upstream is checked, and between two checks while it waits.
const PAUSE: Duration = Duration::from_millis(250);
/// A check that takes longer is overdue: new requests go elsewhere, so that few wait for its result.
const OVERDUE: Duration = Duration::from_millis(100);

/// The checks of one upstream, of which one runs at a time, however many requests wait.
pub(super) struct StallCheck {
    is_running: AtomicBool,
    is_overdue: AtomicBool,
    /// The number of checks that were not answered.
    unanswered: watch::Sender<u64>,
}

impl StallCheck {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_running: AtomicBool::new(false),
            is_overdue: AtomicBool::new(false),
            unanswered: watch::Sender::new(0),
        })
    }

    /// Whether the upstream was last seen not to answer a check in time.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_overdue.load(Relaxed)
    }

    /// The upstream has answered a probe.
    pub(super) fn answered(&self) {
        self.is_overdue.store(false, Relaxed);
    }

    /// Returns when a check was not answered. `check` is started again and again, unless one runs already; it returns whether
    /// it was answered, after its own time limit.
    pub(super) async fn unanswered<F>(self: &Arc<Self>, check: impl Fn() -> F)
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let mut unanswered = self.unanswered.subscribe();
        loop {
            tokio::select! {
                biased;
                // The sender lives as long as `self` does.
                _ = unanswered.changed() => return,
                () = sleep(PAUSE) => {}
            }
            if !self.is_running.swap(true, Relaxed) {
                // A task of its own: the request that has started it may end before.
                tokio::spawn(self.clone().run(check()));
            }
        }
    }

    async fn run(self: Arc<Self>, check: impl Future<Output = bool>) {
        let mut check = pin!(check);
        let answered = match timeout(OVERDUE, &mut check).await {
            Ok(answered) => answered,
            Err(_) => {
                self.is_overdue.store(true, Relaxed);
                check.await
            }
        };
        self.is_overdue.store(!answered, Relaxed);
        if !answered {
            self.unanswered.send_modify(|number| *number += 1);
        }
        // After the result, so that no request that has it begins another check.
        self.is_running.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_share_one_check() {
        let stall = StallCheck::new();
        let checks = Arc::<AtomicUsize>::default();
        let mut waiting = JoinSet::new();
        for _ in 0..100 {
            let (stall, checks) = (stall.clone(), checks.clone());
            waiting.spawn(async move {
                let check = || {
                    checks.fetch_add(1, Relaxed);
                    async {
                        sleep(LIMIT).await;
                        false
                    }
                };
                stall.unanswered(check).await;
            });
        }
        let begun = Instant::now();
        sleep(PAUSE + OVERDUE / 2).await;
        assert!(!stall.is_overdue());
        sleep(OVERDUE).await;
        assert!(stall.is_overdue());
        waiting.join_all().await;
        assert_eq!((checks.load(Relaxed), begun.elapsed()), (1, PAUSE + LIMIT));
        assert!(stall.is_overdue(), "it has answered nothing since");
        stall.answered();
        assert!(!stall.is_overdue());
    }

    #[tokio::test(start_paused = true)]
    async fn check_is_repeated_until_it_is_not_answered() {
        let stall = StallCheck::new();
        let checks = Arc::<AtomicUsize>::default();
        let check = || {
            let number = checks.fetch_add(1, Relaxed);
            async move { number < 3 }
        };
        stall.unanswered(check).await;
        assert_eq!(checks.load(Relaxed), 4);
    }
}
