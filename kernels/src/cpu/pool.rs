//! A fork-join pool for the inner loops of one forward pass.
//!
//! A decode pass of a small model makes some two hundred parallel calls in a dozen milliseconds, so the cost of a
//! call counts: work is claimed from one atomic word, and idle workers spin for a moment before they sleep. A
//! worker that the operating system has preempted delays no other thread, because the caller waits for finished tasks,
//! never for workers.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::{fmt, hint, ptr};

/// How often an idle worker polls for work before it sleeps: some tens of microseconds.
const SPINS_BEFORE_SLEEP: u32 = 4_000;
/// How often the caller polls the count of finished tasks before it yields its core.
const SPINS_BEFORE_YIELD: u32 = 2_000;

/// A fixed set of threads that run the tasks of one call at a time.
///
/// Dropping the pool ends its threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One call at a time; callers from several threads take turns.
    turn: Mutex<()>,
}

/// What a call runs, on the caller's stack for as long as the call lasts.
struct PoolJob<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    count: usize,
    panicked: AtomicBool,
}

struct Shared {
    /// High half: the number of the current call. Low half: tasks not yet claimed.
    ticket: AtomicU64,
    /// The current call's [`PoolJob`]; may be followed only after a task of that call has been claimed.
    job: AtomicPtr<PoolJob<'static>>,
    done: AtomicUsize,
    asleep: AtomicUsize,
    stop: AtomicBool,
}

const UNCLAIMED: u64 = u32::MAX as u64;

impl Pool {
    /// A pool in which `threads` threads work, the caller's included; 0 counts as 1.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            job: AtomicPtr::new(ptr::null_mut()),
            done: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("kernel-{index}"))
                    .spawn(move || shared.work())
                    .ok()
            })
            .collect();
        Self {
            shared,
            workers,
            turn: Mutex::new(()),
        }
    }

    /// How many threads work, the caller's included. Fewer than asked for when the system refused to start more.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)` to `task(count - 1)`, in any order and on any thread, and returns when all are done.
    ///
    /// # Panics
    /// If a task panics, after the others are done. A task must not call `run` on its own pool: it would wait for
    /// itself.
    pub fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        if count <= 1 || self.workers.is_empty() {
            (0..count).for_each(task);
            return;
        }
        assert!(count as u64 <= UNCLAIMED, "{count} tasks in one call");
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let job = PoolJob {
            task,
            count,
            panicked: AtomicBool::new(false),
        };
        let shared = &*self.shared;
        shared.done.store(0, Relaxed);
        shared
            .job
            .store(ptr::from_ref(&job).cast_mut().cast(), Release);
        let call = (shared.ticket.load(Relaxed) >> 32).wrapping_add(1) & UNCLAIMED;
        shared.ticket.store(call << 32 | count as u64, SeqCst);
        if shared.asleep.load(SeqCst) > 0 {
            self.workers.iter().for_each(|w| w.thread().unpark());
        }
        while shared.claim_and_run(call) {}
        let mut spins = 0;
        while shared.done.load(Acquire) < count {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        if job.panicked.load(Relaxed) {
            resume_unwind(Box::new("a kernel task panicked"));
        }
    }

    /// Splits `0..len` into runs of whole `step`s, one or a few a thread, and calls `task` with each run.
    ///
    /// Where a run begins and ends depends on the thread count, so `task` must give the same result for an index
    /// in any run.
    pub fn split(&self, len: usize, step: usize, task: &(dyn Fn(std::ops::Range<usize>) + Sync)) {
        let steps = len.div_ceil(step);
        // Several runs a thread balance cores of different speed and cores that other processes use.
        let runs = steps.min(self.threads() * 4);
        if runs <= 1 || self.workers.is_empty() {
            if len > 0 {
                task(0..len);
            }
            return;
        }
        self.run(runs, &|run| {
            let edge = |run: usize| (run * steps / runs * step).min(len);
            task(edge(run)..edge(run + 1));
        });
    }
}

impl Shared {
    /// Claims one task of `call` and runs it; false when none is left or another call has begun.
    fn claim_and_run(&self, call: u64) -> bool {
        let mut ticket = self.ticket.load(Acquire);
        loop {
            if ticket >> 32 != call || ticket & UNCLAIMED == 0 {
                return false;
            }
            let job = self.job.load(Acquire);
            match self
                .ticket
                .compare_exchange_weak(ticket, ticket - 1, AcqRel, Acquire)
            {
                Ok(_) => {
                    // SAFETY: the exchange succeeded, so call `call` still had an unclaimed task after `job` was
                    // read; its `run` stores the pointer before the ticket and cannot return before the task just
                    // claimed is counted in `done`, so the pointer is that call's and the job outlives this use.
                    let job = unsafe { &*job };
                    let index = job.count - (ticket & UNCLAIMED) as usize;
                    if catch_unwind(AssertUnwindSafe(|| (job.task)(index))).is_err() {
                        job.panicked.store(true, Relaxed);
                    }
                    self.done.fetch_add(1, Release);
                    return true;
                }
                Err(now) => ticket = now,
            }
        }
    }

    /// A worker's life: run what there is, spin for a moment, sleep.
    fn work(&self) {
        let mut spins = 0;
        while !self.stop.load(Relaxed) {
            let ticket = self.ticket.load(Acquire);
            if ticket & UNCLAIMED > 0 {
                while self.claim_and_run(ticket >> 32) {}
                spins = 0;
            } else if spins < SPINS_BEFORE_SLEEP {
                spins += 1;
                hint::spin_loop();
            } else {
                self.asleep.fetch_add(1, SeqCst);
                // Looked at again after `asleep` is visible: a call that came in between either sees the sleeper
                // and unparks it, or is seen here.
                if self.ticket.load(SeqCst) & UNCLAIMED == 0 && !self.stop.load(SeqCst) {
                    thread::park();
                }
                self.asleep.fetch_sub(1, SeqCst);
                spins = 0;
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        let threads: Vec<Thread> = self.workers.iter().map(|w| w.thread().clone()).collect();
        threads.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics, so joining cannot fail with one.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_exactly_once_in_every_call() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for round in 0..2_000_usize {
                let count = round % 17;
                let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                pool.run(count, &|i| {
                    hits[i].fetch_add(1, Relaxed);
                });
                assert!(hits.iter().all(|h| h.load(Relaxed) == 1));
            }
        }
    }

    #[test]
    fn runs_cover_the_range_in_whole_steps() {
        for (threads, len, step) in [(1, 10, 4), (2, 10, 4), (3, 1_000, 7), (4, 3, 8), (2, 0, 1)] {
            let pool = Pool::new(threads);
            let seen: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            pool.split(len, step, &|range| {
                assert_eq!(range.start % step, 0);
                assert!(range.end % step == 0 || range.end == len);
                range.for_each(|i| {
                    seen[i].fetch_add(1, Relaxed);
                });
            });
            assert!(seen.iter().all(|n| n.load(Relaxed) == 1));
        }
    }

    #[test]
    fn a_panicking_task_reaches_the_caller_and_leaves_the_pool_usable() {
        let pool = Pool::new(3);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|i| assert_ne!(i, 5));
        }));
        assert!(caught.is_err());
        let count = AtomicUsize::new(0);
        pool.run(8, &|_| {
            count.fetch_add(1, Relaxed);
        });
        assert_eq!(count.load(Relaxed), 8);
    }

    #[test]
    fn sleeping_workers_are_woken() {
        let pool = Pool::new(2);
        while pool.shared.asleep.load(SeqCst) == 0 {
            thread::yield_now();
        }
        let main = thread::current().id();
        let other = AtomicBool::new(false);
        // The first task blocks its thread until the second has run elsewhere.
        pool.run(2, &|_| {
            if thread::current().id() != main {
                other.store(true, SeqCst);
            }
            while !other.load(SeqCst) {
                thread::yield_now();
            }
        });
    }
}
