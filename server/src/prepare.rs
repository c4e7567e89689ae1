//! Preparation of requests: a few threads parse, render and tokenize them before an engine sees them.
//!
//! That takes seconds for megabytes, and one client could delay all others. Therefore
//!
//! - each client has one request in preparation, and its others wait for it;
//! - the next request is chosen by fair queueing (start-time fair queueing, Goyal et al. 1996): each request is charged to its
//!   client by its bytes, and the one whose charge begins first is next, so that a request of a quiet client is served
//!   before the further requests of a busy one;
//! - one thread serves small requests only;
//! - the work for a client that has disconnected ends with its next piece ([`Ticket::is_wanted`]).
//!
//! Every piece of work moves a counter, so that `/health` and the guardian can tell long work from work that hangs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sanctum_engine::text::RENDER_STACK;
use tokio::sync::oneshot;

use crate::client_key::ClientKey;
use crate::thread_priority;

/// Requests in preparation at once.
const THREADS: usize = 4;
/// How many of those may be large: one thread is kept for small ones.
const LARGE_AT_ONCE: usize = THREADS - 1;
/// A body of more bytes is a large one.
const LARGE: usize = 64 << 10;
/// Parsing a body recurses to its nesting limit, and chat templates are rendered in place. Only the pages of a stack that
/// are used cost memory.
const STACK: usize = RENDER_STACK;
/// The least charge of a request, in bytes.
const LEAST_CHARGE: u64 = 1024;

/// Whose requests take turns: a client's, or those of one connection of this machine, whose programs cannot be distinguished.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// Whose bodies share a limit.
    client: ClientKey,
    /// The other end of the connection, on this machine.
    connection: Option<SocketAddr>,
}

impl Owner {
    /// Whose the requests of a client are that come over a connection from `address`.
    pub(crate) fn of(client: ClientKey, address: SocketAddr) -> Self {
        Self {
            connection: client.is_loopback().then_some(address),
            client,
        }
    }

    /// The client.
    pub(crate) fn client(&self) -> &ClientKey {
        &self.client
    }
}

/// The threads that prepare requests, and the queue of requests.
pub(crate) struct PreparationQueue {
    shared: Arc<PreparationState>,
}

struct PreparationState {
    queue: Mutex<FairQueue>,
    changed: Condvar,
    progress: WorkCounter,
}

/// The requests in preparation and the requests that wait for it.
#[derive(Default)]
struct FairQueue {
    waiting: Vec<WaitingRequest>,
    working: Vec<WorkingRequest>,
    /// Virtual time: the charge up to which a client with an equal share has been served.
    now: u64,
    /// Virtual time at which each busy client's last charge ends.
    asked: HashMap<Owner, u64>,
    /// Requests so far.
    count: u64,
    closed: bool,
}

struct WaitingRequest {
    number: u64,
    owner: Owner,
    bytes: usize,
    since: Instant,
    /// Virtual time at which its charge begins: the order of service.
    begin: u64,
    charge: u64,
    work: Box<dyn FnOnce() + Send>,
}

struct WorkingRequest {
    number: u64,
    owner: Owner,
    bytes: usize,
    since: Instant,
}

#[derive(Debug)]
struct WorkCounter {
    born: Instant,
    progress: AtomicU64,
    moved_ms: AtomicU64,
}

/// The work on one request asks it whether to continue.
#[derive(Clone)]
pub(crate) struct Ticket {
    left: Arc<AtomicBool>,
    shared: Arc<PreparationState>,
}

/// What is being prepared, for `/health`.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct PreparingStatus {
    /// Requests in preparation, and those that wait for it.
    pub requests: usize,
    /// Those that wait.
    pub waiting: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
    /// How long the oldest of them has been there.
    pub oldest_seconds: f64,
    /// Only grows: with every piece of work.
    pub progress: u64,
    /// Since it last grew.
    pub progress_age_seconds: f64,
}

/// The work panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request could not be prepared; see the server's log for the reason")]
pub(crate) struct Panicked;

impl PreparationQueue {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system refuses one.
    pub(crate) fn start() -> io::Result<Self> {
        let preparing = Self {
            shared: Arc::new(PreparationState {
                queue: Mutex::default(),
                changed: Condvar::new(),
                progress: WorkCounter {
                    born: Instant::now(),
                    progress: AtomicU64::new(0),
                    moved_ms: AtomicU64::new(0),
                },
            }),
        };
        for number in 0..THREADS {
            let shared = preparing.shared.clone();
            std::thread::Builder::new()
                .name("prepare".into())
                .stack_size(STACK)
                .spawn(move || {
                    thread_priority::lower();
                    shared.serve(number > 0);
                })?;
        }
        Ok(preparing)
    }

    /// Runs the work when it is the owner's turn. Dropping the future removes the request from the queue, or tells the work
    /// that its client has disconnected.
    ///
    /// # Errors
    /// If the work panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        owner: Owner,
        bytes: usize,
        work: impl FnOnce(&Ticket) -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let ticket = Ticket {
            left: Arc::default(),
            shared: self.shared.clone(),
        };
        let (done, result) = oneshot::channel();
        let shown = ticket.clone();
        let work = move || {
            // A client that has disconnected does not receive the result, which is dropped.
            let _ = done.send(work(&shown));
        };
        let _entry = QueueEntry {
            number: self.shared.queue().enter(owner, bytes, Box::new(work)),
            ticket,
        };
        self.shared.progress.beat();
        self.shared.changed.notify_all();
        result.await.map_err(|_| Panicked)
    }

    /// What is being prepared now.
    pub(crate) fn read(&self) -> PreparingStatus {
        let queue = self.shared.queue();
        let waiting = queue.waiting.iter().map(|one| (one.since, one.bytes));
        let working = queue.working.iter().map(|one| (one.since, one.bytes));
        let (mut oldest, mut bytes) = (None::<Instant>, 0);
        for (since, size) in waiting.chain(working) {
            oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
            bytes += size;
        }
        let (waiting, working) = (queue.waiting.len(), queue.working.len());
        drop(queue);
        let counter = &self.shared.progress;
        PreparingStatus {
            requests: waiting + working,
            waiting,
            bytes,
            oldest_seconds: oldest.map_or(0.0, |since| since.elapsed().as_secs_f64()),
            progress: counter.progress.load(Relaxed),
            progress_age_seconds: counter.age().as_secs_f64(),
        }
    }
}

impl Drop for PreparationQueue {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.closed = true;
        queue.waiting.clear();
        drop(queue);
        self.shared.changed.notify_all();
    }
}

impl Ticket {
    /// Whether the client still waits. Each call counts as a piece of work.
    pub(crate) fn is_wanted(&self) -> bool {
        self.shared.progress.beat();
        !self.left.load(Relaxed)
    }
}

/// A request in the queue, until its client has the result or disconnects.
struct QueueEntry {
    number: u64,
    ticket: Ticket,
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        self.ticket.left.store(true, Relaxed);
        let shared = &self.ticket.shared;
        let mut queue = shared.queue();
        let gone = queue.leave(self.number);
        queue.settle();
        // The work is dropped without the lock.
        drop(queue);
        drop(gone);
    }
}

impl PreparationState {
    fn queue(&self) -> MutexGuard<'_, FairQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of one thread.
    fn serve(&self, takes_large: bool) {
        loop {
            let mut queue = self.queue();
            let (number, work) = loop {
                if queue.closed {
                    return;
                }
                match queue.take(takes_large) {
                    Some(next) => break next,
                    None => {
                        let waited = self.changed.wait(queue);
                        queue = waited.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(queue);
            self.progress.beat();
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("preparing a request panicked");
            }
            self.progress.beat();
            let mut queue = self.queue();
            queue.finish(number);
            drop(queue);
            self.changed.notify_all();
        }
    }
}

impl FairQueue {
    /// Adds a request to the queue, and returns its number.
    fn enter(&mut self, owner: Owner, bytes: usize, work: Box<dyn FnOnce() + Send>) -> u64 {
        self.count += 1;
        let asked = self.asked.get(&owner).copied().unwrap_or(0);
        let begin = asked.max(self.now);
        let charge = charge(bytes);
        self.asked.insert(owner.clone(), begin + charge);
        self.waiting.push(WaitingRequest {
            number: self.count,
            owner,
            bytes,
            since: Instant::now(),
            begin,
            charge,
            work,
        });
        self.count
    }

    /// Removes a request whose client disconnected while it waited, and refunds its charge: nothing was done for it. The
    /// client's later requests move forward by as much.
    fn leave(&mut self, number: u64) -> Option<WaitingRequest> {
        let at = self.waiting.iter().position(|one| one.number == number)?;
        let gone = self.waiting.swap_remove(at);
        if let Some(asked) = self.asked.get_mut(&gone.owner) {
            *asked -= gone.charge;
        }
        let later = self.waiting.iter_mut();
        for one in later.filter(|one| one.owner == gone.owner && one.number > number) {
            // Never before virtual time: only what was asked is refunded, not the time since.
            one.begin = (one.begin - gone.charge).max(self.now.min(one.begin));
        }
        Some(gone)
    }

    /// Takes the request that is next for a thread: the one whose charge begins first. The end of the charge must not
    /// decide: new clients all begin now, and their smaller requests would overtake a larger one without limit.
    fn take(&mut self, takes_large: bool) -> Option<(u64, Box<dyn FnOnce() + Send>)> {
        let large = |bytes: usize| bytes > LARGE;
        let working = self.working.iter().filter(|one| large(one.bytes)).count();
        let room = takes_large && working < LARGE_AT_ONCE;
        let may = |one: &WaitingRequest| {
            (room || !large(one.bytes)) && self.working.iter().all(|other| other.owner != one.owner)
        };
        let waiting = self.waiting.iter().enumerate();
        let (at, _) = waiting
            .filter(|(_, one)| may(one))
            .min_by_key(|(_, one)| (one.begin, one.number))?;
        let next = self.waiting.swap_remove(at);
        self.now = self.now.max(next.begin);
        self.working.push(WorkingRequest {
            number: next.number,
            owner: next.owner,
            bytes: next.bytes,
            since: next.since,
        });
        Some((next.number, next.work))
    }

    /// Removes a request that is prepared. Virtual time moves by its charge divided among the clients that are here:
    /// clients that always begin now do not hold it back, and earlier ones get their turn.
    fn finish(&mut self, number: u64) {
        let waiting = self.waiting.iter().map(|one| &one.owner);
        let working = self.working.iter().map(|one| &one.owner);
        let clients = waiting.chain(working).collect::<HashSet<_>>().len() as u64;
        if let Some(at) = self.working.iter().position(|one| one.number == number) {
            let done = self.working.swap_remove(at);
            self.now += charge(done.bytes) / clients;
        }
        self.settle();
    }

    /// Removes the charges of clients that have no requests here and have been served up to virtual time.
    fn settle(&mut self) {
        if self.waiting.is_empty() && self.working.is_empty() {
            self.asked.clear();
            self.now = 0;
        }
        let Self {
            waiting,
            working,
            now,
            asked,
            ..
        } = self;
        asked.retain(|owner, asked| {
            *asked > *now
                || waiting.iter().any(|one| one.owner == *owner)
                || working.iter().any(|one| one.owner == *owner)
        });
    }
}

fn charge(bytes: usize) -> u64 {
    LEAST_CHARGE.max(bytes as u64)
}

impl WorkCounter {
    fn beat(&self) {
        self.progress.fetch_add(1, Relaxed);
        let now = self.born.elapsed().as_millis() as u64;
        self.moved_ms.store(now, Relaxed);
    }

    fn age(&self) -> Duration {
        let moved = Duration::from_millis(self.moved_ms.load(Relaxed));
        self.born.elapsed().saturating_sub(moved)
    }
}

#[cfg(test)]
mod tests;
