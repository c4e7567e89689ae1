//! What the engine's handles and its thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc as std_mpsc;

use tokio::sync::{mpsc, watch};

use super::admission::{Admission, Reservation};
use super::heartbeat::Heartbeat;
use super::request::{Event, Request};
use crate::text::Text;

/// How much the engine takes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences that are generated at once.
    pub slots: usize,
    /// Requests that may wait for a slot; more are refused.
    pub queue: usize,
    /// Prompt tokens that one pass takes in, beside the running sequences' tokens.
    pub prefill_chunk: usize,
    /// Tokens of a sequence, prompt and answer together.
    pub context: usize,
}

/// What has happened since the start; only grows.
#[derive(Debug, Default)]
pub struct Stats {
    /// Prompt tokens computed.
    pub prompt_tokens: AtomicU64,
    /// Tokens generated.
    pub generated_tokens: AtomicU64,
    /// Forward passes.
    pub passes: AtomicU64,
    /// Rows in all passes together; over `passes` this is the mean batch.
    pub rows: AtomicU64,
    /// Sequences whose client left before the end.
    pub cancelled: AtomicU64,
}

/// What handles and the engine thread both see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) admission: Arc<Admission>,
    pub(crate) vocab: usize,
    pub(crate) text: Text,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) stats: Arc<Stats>,
    /// Requests submitted and not yet admitted.
    pub(crate) waiting: AtomicUsize,
    /// How long a sequence holds its slot, in milliseconds: a moving average.
    pub(crate) slot_ms: AtomicU64,
}

impl Shared {
    /// When a place in the queue is likely to be free.
    pub(super) fn retry_after_s(&self, queued: usize) -> u64 {
        let turns = queued.div_ceil(self.limits.slots.max(1)) as u64;
        (turns * self.slot_ms.load(Relaxed))
            .div_ceil(1_000)
            .clamp(1, 300)
    }
}

/// Events that a client may leave unread before its request is ended: the engine waits for nobody, and each may hold
/// kilobytes of log probabilities.
pub(crate) const UNREAD: usize = 1024;
/// Room that is left for a request's last events.
pub(crate) const LAST: usize = 4;

/// A request on its way to the engine's thread, with the way back.
#[derive(Debug)]
pub struct Job {
    /// What to generate.
    pub request: Request,
    /// Where its events go; closed when the client has left.
    pub events: mpsc::Sender<Event>,
    /// The memory that it may take.
    pub memory: Reservation,
}

/// The engine thread's end of a handle.
#[derive(Debug)]
pub struct Inbox {
    /// Requests in the order of their arrival.
    pub jobs: std_mpsc::Receiver<Job>,
    /// Says why the thread ended, once.
    pub stop: watch::Sender<Option<String>>,
}
