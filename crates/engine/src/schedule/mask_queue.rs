//! Threads for work that may take long: that of clients whose work has taken long never occupies all of them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A piece of work.
type MaskWork = Box<dyn FnOnce() + Send>;

/// The threads and their queue.
pub(crate) struct MaskQueue {
    shared: Arc<SharedQueue>,
    /// Pieces of work that had ended at the last [`MaskQueue::wait`].
    seen: u64,
    threads: usize,
}

#[derive(Default)]
struct SharedQueue {
    lanes: Mutex<QueueLanes>,
    added: Condvar,
    ended: Condvar,
}

#[derive(Default)]
struct QueueLanes {
    fast: VecDeque<MaskWork>,
    slow: VecDeque<MaskWork>,
    /// Slow work that a thread does.
    slow_running: usize,
    ended: u64,
    closed: bool,
}

impl QueueLanes {
    /// The next piece of work, and whether it is slow work.
    fn next(&mut self, slow_at_once: usize) -> Option<(MaskWork, bool)> {
        if let Some(work) = self.fast.pop_front() {
            return Some((work, false));
        }
        if self.slow_running >= slow_at_once {
            return None;
        }
        let work = self.slow.pop_front()?;
        self.slow_running += 1;
        Some((work, true))
    }
}

impl MaskQueue {
    /// Starts the threads: half as many as there are cores, since the pass computes as well, and two at least.
    pub(crate) fn start() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::with_threads((cores / 2).clamp(2, 8))
    }

    fn with_threads(threads: usize) -> Self {
        let shared = Arc::<SharedQueue>::default();
        let slow_at_once = (threads / 2).max(1);
        let started = (0..threads).filter(|index| {
            let shared = Arc::clone(&shared);
            let run = move || shared.work(slow_at_once);
            let name = format!("mask-{index}");
            thread::Builder::new().name(name).spawn(run).is_ok()
        });
        Self {
            threads: started.count(),
            shared,
            seen: 0,
        }
    }

    /// Adds a piece of work; `is_slow` if that of the same client has taken long.
    pub(crate) fn push(&self, work: MaskWork, is_slow: bool) {
        // No thread could be started.
        if self.threads == 0 {
            return work();
        }
        let mut lanes = self.shared.lanes();
        match is_slow {
            true => lanes.slow.push_back(work),
            false => lanes.fast.push_back(work),
        }
        drop(lanes);
        // Any thread may do any work, except slow work when that is limited: then one looks for it when it has ended.
        self.shared.added.notify_one();
    }

    /// Waits until a piece of work ends after the last call of this function, or for `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        let seen = self.seen;
        let waited = self
            .shared
            .ended
            .wait_timeout_while(self.shared.lanes(), timeout, |lanes| lanes.ended == seen);
        let (lanes, _) = waited.unwrap_or_else(PoisonError::into_inner);
        self.seen = lanes.ended;
    }
}

impl Drop for MaskQueue {
    fn drop(&mut self) {
        self.shared.lanes().closed = true;
        self.shared.added.notify_all();
    }
}

impl SharedQueue {
    fn lanes(&self) -> MutexGuard<'_, QueueLanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until the queue is dropped.
    fn work(&self, slow_at_once: usize) {
        let mut lanes = self.lanes();
        loop {
            if lanes.closed {
                return;
            }
            let Some((work, is_slow)) = lanes.next(slow_at_once) else {
                let waited = self.added.wait(lanes);
                lanes = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(lanes);
            work();
            lanes = self.lanes();
            lanes.slow_running -= usize::from(is_slow);
            lanes.ended += 1;
            self.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn slow_work_leaves_a_thread_for_fast_work() {
        let mut queue = MaskQueue::with_threads(2);
        let (release, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (report, reports) = channel();
        for number in 0..4 {
            let (gate, report) = (Arc::clone(&gate), report.clone());
            let work = move || {
                report.send(format!("begins {number}")).unwrap();
                gate.lock().unwrap().recv().unwrap();
                report.send(format!("ends {number}")).unwrap();
            };
            queue.push(Box::new(work), true);
        }
        assert_eq!(reports.recv().unwrap(), "begins 0");
        // The slow work waits, and still fast work is done.
        for number in 0..3 {
            let report = report.clone();
            let work = move || report.send(format!("fast {number}")).unwrap();
            queue.push(Box::new(work), false);
            assert_eq!(reports.recv().unwrap(), format!("fast {number}"));
        }
        for _ in 0..4 {
            release.send(()).unwrap();
        }
        let rest: Vec<_> = reports.iter().take(7).collect();
        let in_order = [
            "ends 0", "begins 1", "ends 1", "begins 2", "ends 2", "begins 3", "ends 3",
        ];
        assert_eq!(rest, in_order);
        while queue.seen < 7 {
            queue.wait(Duration::from_secs(10));
        }
    }
}
