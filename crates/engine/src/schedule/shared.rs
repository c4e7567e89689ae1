//! What the engine's handles and its thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc as std_mpsc;

use tokio::sync::{mpsc, watch};

use super::admission::{Admission, Reservation};
use super::heartbeat::Heartbeat;
use super::request::{Event, Request};
use crate::prefix::status::PrefixStatus;
use crate::text::Text;

/// How much work the engine accepts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Sequences that run at once.
    pub slots: usize,
    /// Requests that may wait for a slot; more are refused.
    pub queue: usize,
    /// Prompt tokens that one pass processes, in addition to the running sequences' tokens.
    pub prefill_chunk: usize,
    /// Tokens of a sequence, prompt and answer together.
    pub context: usize,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct EngineStats {
    /// Prompt tokens computed.
    pub prompt_tokens: AtomicU64,
    /// Tokens generated.
    pub generated_tokens: AtomicU64,
    /// Forward passes.
    pub passes: AtomicU64,
    /// Rows in all passes together; over `passes` this is the mean batch.
    pub rows: AtomicU64,
    /// Sequences whose client disconnected before the end.
    pub cancelled: AtomicU64,
    /// Requests that reused a prefix.
    pub prefix_hits: AtomicU64,
    /// Prompt tokens that were reused.
    pub prefix_hit_tokens: AtomicU64,
    /// Snapshots that were evicted from memory.
    pub prefix_evictions: AtomicU64,
    /// Requests that waited for another one to compute a prefix that both share.
    pub prefix_waits: AtomicU64,
    /// Snapshots that were read from disk.
    pub prefix_restores: AtomicU64,
    /// Microseconds that this took.
    pub prefix_restore_us: AtomicU64,
    /// Sequences that were computed from their first token after all, since the logits behind a reused prefix were not finite.
    pub prefix_restarts: AtomicU64,
    /// Reuses that were checked.
    pub prefix_checks: AtomicU64,
    /// Checks that found a difference.
    pub prefix_differences: AtomicU64,
    /// Bytes that are kept in memory for reuse, now.
    pub prefix_hot_bytes: AtomicU64,
    /// Bytes that are kept on disk for reuse, now.
    pub prefix_cold_bytes: AtomicU64,
    /// Snapshots in memory, now.
    pub prefix_snapshots: AtomicU64,
}

/// State that the handles and the engine's thread share.
#[derive(Debug)]
pub(crate) struct EngineShared {
    pub(crate) limits: EngineLimits,
    pub(crate) admission: Arc<Admission>,
    pub(crate) vocab: usize,
    pub(crate) text: Text,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) stats: Arc<EngineStats>,
    pub(crate) prefix: PrefixStatus,
    /// Requests submitted and not yet admitted.
    pub(crate) waiting: AtomicUsize,
    /// How long a sequence holds its slot, in milliseconds: a moving average.
    pub(crate) slot_ms: AtomicU64,
}

impl EngineShared {
    /// Seconds until the queue is likely to have room.
    pub(super) fn retry_after_s(&self, queued: usize) -> u64 {
        let turns = queued.div_ceil(self.limits.slots.max(1)) as u64;
        (turns * self.slot_ms.load(Relaxed))
            .div_ceil(1_000)
            .clamp(1, 300)
    }
}

/// Events that a client may leave unread before its request is ended: the engine never waits for a client, and each event may
/// hold kilobytes of log probabilities.
pub(crate) const UNREAD: usize = 1024;
/// Room reserved for a request's last events.
pub(crate) const LAST: usize = 4;

/// A request on its way to the engine's thread.
#[derive(Debug)]
pub struct QueuedRequest {
    /// What to generate.
    pub request: Request,
    /// The channel for its events; closed when the client has disconnected.
    pub events: mpsc::Sender<Event>,
    /// Its share of the memory.
    pub memory: Reservation,
}

/// The engine thread's end of a handle.
#[derive(Debug)]
pub struct Inbox {
    /// Requests in the order of their arrival; none: the memory budget has changed.
    pub jobs: std_mpsc::Receiver<Option<QueuedRequest>>,
    /// Receives the reason for which the thread ended, once.
    pub stop: watch::Sender<Option<String>>,
}
