//! Work for reused prefixes beside that of requests: what is written to disk, and what is checked. It is done piece by piece, a
//! check when the engine is idle only, so that a request waits for one piece at most.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{PrefixReuse, SlotState, Upkeep, report_unusable};
use crate::backend::Backend;
use crate::backend::batch::SlotId;
use crate::backend::cost::ExtraCost;
use crate::graph::Model;
use crate::prefix::cold_tier::{ColdTier, Export};
use crate::prefix::oracle::CheckProgress;
use crate::prefix::scope::Scope;
use crate::prefix::status::PrefixState;
use crate::schedule::admission::Reservation;

/// At the end, as long as this may be spent on writing what is not on disk.
const AT_THE_END: Duration = Duration::from_secs(5);

impl<B: Backend> PrefixReuse<B> {
    /// Records a prefix that was restored into a slot for its check, if one is due and memory holds what it keeps.
    pub(super) fn record(&mut self, state: SlotState<'_, B>, scope: Scope, tokens: &[u32]) {
        let needed = self.cache.cost().of(tokens.len());
        if self.oracle.is_due() && self.cache.bytes().saturating_add(needed) <= self.room(0) {
            let snapshot = state.backend.snapshot(state.slots, state.slot);
            self.oracle.record(scope, tokens, snapshot);
        }
    }

    /// Bytes that the records of the check hold, at most.
    pub(super) fn recorded_bytes(&self) -> u64 {
        let cost = self.cache.cost();
        self.oracle.lengths().map(|len| cost.of(len)).sum()
    }

    /// Does a piece of the work that waits for an idle engine; `slot` is empty. No request runs.
    pub(crate) fn idle(&mut self, model: &Model<B>, slots: &mut B::Slots, slot: SlotId) -> Upkeep {
        self.cancel_restore();
        if let Some(tokens) = self.oracle.next_tokens() {
            return self.check(model, slots, slot, tokens);
        }
        self.write_due(model.backend(), slots);
        let due = self.cold.as_ref().and_then(|cold| cold.due_in());
        // The writer may have finished meanwhile, and nothing asks again: what it wrote, or a folder that it has taken, is counted.
        self.report_disk();
        due.map_or(Upkeep::Done, Upkeep::More)
    }

    /// A request arrived: nothing of a check is left in its slot.
    pub(crate) fn pause(&mut self, backend: &B, slots: &mut B::Slots) {
        self.oracle.pause(backend, slots);
        self.check_memory = None;
    }

    /// Exports a snapshot that is to be written to disk now, if there is one.
    pub(crate) fn write_due(&mut self, backend: &B, slots: &mut B::Slots) {
        if let Some(error) = self.cold.as_mut().and_then(ColdTier::failure) {
            self.cancel_restore();
            report_unusable(&error, &self.shared.prefix);
        }
        self.report_disk();
        let cost = self.cache.cost();
        let Some(cold) = &mut self.cold else { return };
        let Some(export) = cold.next(|tokens| cost.of(tokens)) else {
            return;
        };
        let Export {
            scope,
            tokens,
            from,
            ..
        } = &export;
        // It may have been evicted since it was noted.
        if let Some(snapshot) = self.cache.get(*scope, tokens) {
            let payload = backend.export(slots, snapshot, *from);
            cold.write(export, payload);
        }
    }

    fn report_disk(&self) {
        if let Some(cold) = &self.cold {
            let bytes = &self.shared.stats.prefix_cold_bytes;
            bytes.store(cold.bytes(), Relaxed);
        }
    }

    /// The engine ends: writes what was noted, within a limit of time.
    pub(crate) fn finish(&mut self, backend: &B, slots: &mut B::Slots) {
        let begun = Instant::now();
        if let Some(cold) = &mut self.cold {
            cold.settle_now();
        }
        // A folder that cannot be used is not waited for.
        let can_write = |cold: &&ColdTier| cold.status().problem().is_none();
        while begun.elapsed() < AT_THE_END
            && let Some(wait) = (self.cold.as_ref().filter(can_write)).and_then(ColdTier::due_in)
        {
            std::thread::sleep(wait);
            self.write_due(backend, slots);
        }
    }

    /// Takes the time of a pass with so many rows of prompts into account.
    pub(crate) fn measured(&mut self, rows: usize, took: Duration) {
        if let Some(cold) = &mut self.cold {
            cold.measured(rows, took);
        }
    }

    /// One pass of the check of the first record, which holds at most `tokens`.
    fn check(
        &mut self,
        model: &Model<B>,
        slots: &mut B::Slots,
        slot: SlotId,
        tokens: usize,
    ) -> Upkeep {
        let backend = model.backend();
        if self.check_memory.is_none() {
            let memory = self
                .shared
                .admission
                .reserve(tokens, 0, ExtraCost::default());
            let begun = |mut memory: Reservation| memory.begin().then_some(memory);
            self.check_memory = memory.ok().and_then(begun);
            if self.check_memory.is_none() {
                // Other engines hold the memory; it is not worth waiting for.
                self.oracle.clear(backend, slots);
                return Upkeep::More(Duration::ZERO);
            }
            self.shrink(backend, slots);
        }
        let shared = std::sync::Arc::clone(&self.shared);
        let (chunk, beat) = (shared.limits.prefill_chunk, || shared.heartbeat.beat());
        let progress = self.oracle.step(model, slots, slot, chunk, beat);
        if progress == CheckProgress::Running {
            return Upkeep::More(Duration::ZERO);
        }
        self.check_memory = None;
        match progress {
            CheckProgress::Running | CheckProgress::Idle => {}
            CheckProgress::Equal => {
                shared.stats.prefix_checks.fetch_add(1, Relaxed);
            }
            CheckProgress::Different(difference) => {
                shared.stats.prefix_checks.fetch_add(1, Relaxed);
                shared.stats.prefix_differences.fetch_add(1, Relaxed);
                self.disable(backend, slots, difference.to_string());
                return Upkeep::Disabled;
            }
        }
        Upkeep::More(Duration::ZERO)
    }

    /// Empties both tiers and reports why; nothing is reused until the engine is started again.
    fn disable(&mut self, backend: &B, slots: &mut B::Slots, reason: String) {
        tracing::error!(
            "{reason}; all cached prefixes are removed and none is reused until a restart. Restart the server to reuse \
             prefixes again; if this is reported again, set prefix_cache = \"off\""
        );
        self.oracle.clear(backend, slots);
        for snapshot in self.cache.clear() {
            backend.release(slots, snapshot);
        }
        if let Some(cold) = &mut self.cold {
            cold.clear();
        }
        self.report_disk();
        self.report();
        self.shared
            .prefix
            .set(PrefixState::DisabledByCheck { reason });
    }
}
