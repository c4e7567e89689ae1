//! Reuse of prefixes: what running sequences leave, and what waiting requests begin with.
//!
//! All of it is cut short rather than let a sequence wait for memory: a snapshot is kept only in what reservations leave, and is
//! evicted when a reservation needs its memory.

mod restore;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub(crate) use self::restore::DiskWait;
use crate::backend::Backend;
use crate::backend::batch::SlotId;
use crate::graph::Model;
use crate::prefix::cache::{PrefixCache, SnapshotCost};
use crate::prefix::cold::{ColdError, ColdLink};
use crate::prefix::cold_tier::ColdTier;
use crate::prefix::damage;
use crate::prefix::options::{ColdOptions, PrefixOptions};
use crate::prefix::oracle::Oracle;
use crate::prefix::points::{PointRules, SnapshotPoints};
use crate::prefix::scope::Scope;
use crate::prefix::status::{PrefixState, PrefixStatus};
use crate::prefix::tree::common_prefix;
use crate::schedule::admission::Reservation;
use crate::schedule::shared::EngineShared;

/// The fewest tokens between two points within a long message, unless the options say otherwise.
const SPACING: u64 = 512;

/// The snapshots of one engine.
pub(crate) struct PrefixReuse<B: Backend> {
    cache: PrefixCache<B::Snapshot>,
    rules: PointRules,
    /// Bytes that snapshots may take.
    limit: u64,
    /// What is kept on disk; none if nothing is.
    cold: Option<ColdTier>,
    /// The prefix that is being read from there.
    restore: Option<ColdRestore>,
    /// When the last one was cancelled.
    cancelled: Option<Instant>,
    oracle: Oracle<B>,
    /// The memory of the check that runs.
    check_memory: Option<Reservation>,
    /// Sequences begun so far.
    begun: u64,
    shared: Arc<EngineShared>,
}

/// A prefix that is being read from disk, file by file.
struct ColdRestore {
    scope: Scope,
    tokens: Vec<u32>,
    /// The files whose snapshots are not made yet.
    links: VecDeque<ColdLink>,
    /// Tokens of the last snapshot that was made; 0 if none was.
    restored: usize,
    begun: Instant,
    /// When the disk last gave something.
    moved: Instant,
}

/// What a running sequence reuses and leaves.
pub(crate) struct SequenceReuse {
    /// Identifies the sequence; later ones have larger numbers.
    number: u64,
    scope: Scope,
    /// Tokens that it began with.
    start: usize,
    /// Where snapshots of its prompt are taken.
    points: SnapshotPoints,
    /// Tokens of the last snapshot on its path.
    last: usize,
}

/// A running sequence whose prompt is being computed.
pub(crate) struct Leader<'a> {
    pub(crate) reuse: &'a mut SequenceReuse,
    pub(crate) prompt: &'a [u32],
    /// Tokens of it that are computed.
    pub(crate) computed: usize,
}

/// A sequence's slot, as snapshots of it are taken.
pub(crate) struct SlotState<'a, B: Backend> {
    pub(crate) backend: &'a B,
    pub(crate) slots: &'a mut B::Slots,
    pub(crate) slot: SlotId,
}

/// What a piece of work leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// More work, after this time.
    More(Duration),
    /// Nothing to do until a request was served.
    Done,
    /// A reused prefix was not equal to the computed one: nothing is reused any more.
    Disabled,
}

impl SequenceReuse {
    /// Tokens of its prompt that were not computed.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Where the next chunk of its prompt ends at the latest.
    pub(crate) fn next_end(&self, computed: usize) -> Option<usize> {
        self.points.next_end(computed)
    }

    /// How many tokens another prompt of a scope begins with alike.
    pub(crate) fn shared(&self, own: &[u32], scope: Scope, prompt: &[u32]) -> usize {
        match self.scope == scope {
            true => common_prefix(own, prompt),
            false => 0,
        }
    }
}

impl<B: Backend> PrefixReuse<B> {
    /// None if it is turned off, or the backend cannot.
    pub(crate) fn new(
        options: &PrefixOptions,
        model: &Model<B>,
        shared: &Arc<EngineShared>,
    ) -> Option<Self> {
        let backend = model.backend();
        if !options.enabled || !backend.has_snapshots() {
            return None;
        }
        let cost = backend.cost(&model.config);
        let even = cost.fixed.checked_div(cost.per_token).unwrap_or(SPACING);
        let spacing = usize::try_from(even.max(SPACING)).unwrap_or(usize::MAX);
        shared.prefix.set(PrefixState::On);
        Some(Self {
            cache: PrefixCache::new(SnapshotCost {
                fixed: cost.fixed,
                page: cost.per_token.saturating_mul(cost.page as u64),
                page_tokens: cost.page,
            }),
            rules: PointRules {
                ends: shared.text.message_ends.clone(),
                spacing: options.spacing.unwrap_or(spacing),
                least: options.least.max(1),
            },
            limit: options.limit.unwrap_or(shared.admission.budget() / 2),
            cold: (options.cold.as_ref())
                .and_then(|cold| open_cold(cold, options.fingerprint, &shared.prefix)),
            restore: None,
            cancelled: None,
            oracle: Oracle::new(options.check_share),
            check_memory: None,
            begun: 0,
            shared: Arc::clone(shared),
        })
    }

    /// Whether a request should wait, since a running one will soon have computed more of its prompt than is kept. Makes sure that
    /// the running one leaves a snapshot there.
    pub(crate) fn waits<'a>(
        &self,
        scope: Scope,
        prompt: &[u32],
        running: impl Iterator<Item = Leader<'a>>,
    ) -> bool {
        let kept = self.cache.find(scope, prompt).hit.map_or(0, |hit| hit.1);
        let least = self.rules.least;
        // The last token of a prompt is always computed.
        let most = prompt.len().saturating_sub(1);
        let shared = running
            .map(|leader| {
                let shared = leader.reuse.shared(leader.prompt, scope, prompt);
                (shared.min(most), leader)
            })
            .filter(|(shared, leader)| *shared > leader.computed && *shared >= kept + least)
            .max_by_key(|(shared, _)| *shared);
        let Some((shared, leader)) = shared else {
            return false;
        };
        leader.reuse.points.require(shared, leader.computed, least);
        true
    }

    /// Begins a sequence with the longest prefix that is kept. `known` tokens of its prompt are those of other running ones too.
    pub(crate) fn begin(
        &mut self,
        state: SlotState<'_, B>,
        scope: Scope,
        prompt: &[u32],
        known: usize,
    ) -> SequenceReuse {
        let found = self.cache.find(scope, prompt);
        let mut start = 0;
        if let Some((id, len)) = found.hit
            && let Some(snapshot) = self.cache.used(id)
        {
            state.backend.restore(state.slots, state.slot, snapshot);
            start = len;
            let stats = &self.shared.stats;
            stats.prefix_hits.fetch_add(1, Relaxed);
            stats.prefix_hit_tokens.fetch_add(len as u64, Relaxed);
            self.record(state, scope, &prompt[..=len]);
        }
        self.begun += 1;
        SequenceReuse {
            number: self.begun,
            scope,
            start,
            points: self.rules.points(prompt, start, found.known.max(known)),
            last: start,
        }
    }

    /// A sequence begins again with nothing, since its logits are not finite: removes the prefix that it reused, and all that
    /// continue it, from both tiers. `tokens` are all that the sequence has.
    pub(crate) fn restart(
        &mut self,
        backend: &B,
        slots: &mut B::Slots,
        reuse: &mut SequenceReuse,
        tokens: &[u32],
    ) {
        let (scope, len) = (reuse.scope, reuse.start);
        tracing::error!(
            %scope, tokens = len,
            "logits behind a reused prefix are not finite numbers: it is removed, and the sequence is computed from its first \
             token. Test this machine's memory and disk if this happens again"
        );
        for snapshot in self.cache.remove_from(scope, &tokens[..len]) {
            backend.release(slots, snapshot);
        }
        if let Some(cold) = &mut self.cold {
            cold.forget_from(scope, tokens, len);
        }
        self.shared.stats.prefix_restarts.fetch_add(1, Relaxed);
        self.report();
        (reuse.start, reuse.last) = (0, 0);
        reuse.points = self.rules.points(tokens, 0, 0);
    }

    /// Takes a snapshot if one is due: the slot holds these tokens of a prompt.
    pub(crate) fn at_point(
        &mut self,
        state: SlotState<'_, B>,
        reuse: &mut SequenceReuse,
        tokens: &[u32],
    ) {
        if reuse.points.take(tokens.len()) {
            // What many conversations begin with is the first point of the first of them.
            let is_lasting = reuse.last == 0;
            reuse.last = tokens.len();
            self.keep(state, reuse.scope, tokens, 0);
            self.note(reuse, is_lasting, tokens);
        }
    }

    /// Keeps what a sequence leaves that has ended: the slot holds these tokens. `reserved` bytes are released with it.
    pub(crate) fn at_end(
        &mut self,
        state: SlotState<'_, B>,
        reuse: &SequenceReuse,
        tokens: &[u32],
        reserved: u64,
    ) {
        if tokens.len() >= reuse.last + self.rules.least {
            self.keep(state, reuse.scope, tokens, reserved);
            self.note(reuse, false, tokens);
        }
    }

    /// Notes a snapshot that is to be written to disk.
    fn note(&mut self, reuse: &SequenceReuse, is_lasting: bool, tokens: &[u32]) {
        if let Some(cold) = &mut self.cold
            && self.cache.contains(reuse.scope, tokens)
        {
            cold.note(reuse.number, is_lasting, reuse.scope, tokens);
        }
    }

    /// Evicts snapshots until the others fit into what reservations leave.
    pub(crate) fn shrink(&mut self, backend: &B, slots: &mut B::Slots) {
        if self.recorded_bytes() > self.shared.admission.left() {
            self.oracle.clear(backend, slots);
        }
        self.shrink_to(self.room(0), backend, slots);
    }

    /// Bytes for snapshots once so many reserved ones are released.
    fn room(&self, released: u64) -> u64 {
        let left = self.shared.admission.left().saturating_add(released);
        self.limit.min(left.saturating_sub(self.recorded_bytes()))
    }

    fn keep(&mut self, state: SlotState<'_, B>, scope: Scope, tokens: &[u32], released: u64) {
        let SlotState {
            backend,
            slots,
            slot,
        } = state;
        let cost = self.cache.cost();
        let room = self.room(released);
        if cost.of(tokens.len()) > room || self.cache.contains(scope, tokens) {
            return;
        }
        // The recurrent states are copied; the pages are there already.
        self.shrink_to(room - cost.fixed, backend, slots);
        let snapshot = backend.snapshot(slots, slot);
        let snapshot = damage::damaged(backend, slots, snapshot);
        self.insert(backend, slots, scope, tokens, snapshot);
        self.shrink_to(room, backend, slots);
        self.report();
    }

    fn insert(
        &mut self,
        backend: &B,
        slots: &mut B::Slots,
        scope: Scope,
        tokens: &[u32],
        snapshot: B::Snapshot,
    ) {
        let pages = backend.pages(slots, &snapshot);
        if let Some(before) = self.cache.insert(scope, tokens, snapshot, pages) {
            backend.release(slots, before);
        }
    }

    fn shrink_to(&mut self, room: u64, backend: &B, slots: &mut B::Slots) {
        let mut evicted = 0;
        while self.cache.bytes() > room
            && let Some(snapshot) = self.cache.evict()
        {
            backend.release(slots, snapshot);
            evicted += 1;
        }
        if evicted > 0 {
            let evictions = &self.shared.stats.prefix_evictions;
            evictions.fetch_add(evicted, Relaxed);
            self.report();
        }
    }

    fn report(&self) {
        let stats = &self.shared.stats;
        stats.prefix_hot_bytes.store(self.cache.bytes(), Relaxed);
        let snapshots = self.cache.len() as u64;
        stats.prefix_snapshots.store(snapshots, Relaxed);
    }
}

/// The cold tier; none if its folder cannot be used, which is logged and reported: the engine serves without it.
fn open_cold(
    options: &ColdOptions,
    fingerprint: [u8; 32],
    status: &PrefixStatus,
) -> Option<ColdTier> {
    match ColdTier::open(options, fingerprint) {
        Ok(cold) => {
            status.set_disk(Arc::clone(cold.status()));
            Some(cold)
        }
        Err(error) => {
            report_unusable(&error, status);
            None
        }
    }
}

fn report_unusable(error: &ColdError, status: &PrefixStatus) {
    tracing::error!("{error}; prefixes are kept in memory only, until a restart");
    status.set_unusable(error);
}
