//! Which sequences take part in the next pass.
//!
//! One thread owns the model. Before every pass it receives new requests, releases cancelled ones, gives free slots to
//! waiting requests, and fills a batch: one row for every sequence that is being generated, and a bounded number of prompt
//! rows, divided evenly among the prompts that are being prefilled. So a sequence waits for another's long prompt for one
//! chunk at most, and a short prompt does not wait behind a long one.
//!
//! Where tokens are chosen on the device and every sequence is greedy, the next pass is enqueued before the host has read the
//! tokens of the last one: the device runs without a gap, and the host decodes text concurrently. A sequence that has ended
//! meanwhile has one row too many in that pass, whose result is dropped.
//!
//! A sequence whose mask takes long skips passes until it is known ([`masks`](super::masks)).

mod admit;
mod complete;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use crate::backend::Backend;
use crate::backend::batch::{Batch, SlotId};
use crate::freeze::{self, Point};
use crate::graph::Model;
use crate::prefix::options::PrefixOptions;
use crate::schedule::admission::Reservation;
use crate::schedule::masks::{MASK_WAIT, MaskStatus, MaskWorkers};
use crate::schedule::prompt_scores::rows_per_pass;
use crate::schedule::request::Event;
use crate::schedule::reuse::{DiskWait, PrefixReuse, SequenceReuse, SlotState};
use crate::schedule::row_shares::RowShares;
use crate::schedule::sequence::{PassResult, Sequence};
use crate::schedule::shared::{EngineShared, QueuedRequest};

/// A sequence that holds a slot.
struct Running {
    /// Identifies the sequence; slots are reused.
    number: u64,
    slot: SlotId,
    since: Instant,
    /// Tokens that the slot holds.
    len: usize,
    /// Held until the slot is free.
    memory: Reservation,
    events: Sender<Event>,
    sequence: Sequence,
    /// None if it neither reuses nor leaves anything.
    reuse: Option<SequenceReuse>,
}

/// A request without a slot.
struct Waiting {
    queued: QueuedRequest,
    /// Whether it waits, or has waited, for a prefix that another one computes.
    for_prefix: bool,
    /// What it has asked of the disk.
    for_disk: DiskWait,
}

/// A pass that the device is running.
struct PendingPass<B: Backend> {
    /// The sequences that its results belong to, in order.
    owners: Vec<PassOwner>,
    outcome: PassOutput<B>,
}

/// A sequence with results in a pass.
struct PassOwner {
    number: u64,
    /// Places in its prompt whose rows have results.
    scored: Range<usize>,
    /// Whether its next token is chosen by the last of its results.
    chooses: bool,
}

impl PassOwner {
    /// How many results it has.
    fn results(&self) -> usize {
        self.scored.len().max(usize::from(self.chooses))
    }
}

/// The results of a pass.
enum PassOutput<B: Backend> {
    /// None: the pass only extended the caches.
    Nothing,
    /// Rows of logits, for each owner its [results](PassOwner::results).
    Logits(B::Tensor),
    /// A token for each owner, chosen on the device.
    Chosen(B::Chosen),
}

pub(crate) struct Scheduler<B: Backend> {
    model: Model<B>,
    slots: B::Slots,
    /// The pass after the one whose results are being read.
    ahead: Option<PendingPass<B>>,
    /// Sequences started so far.
    count: u64,
    free: Vec<SlotId>,
    waiting: VecDeque<Waiting>,
    running: Vec<Running>,
    reuse: Option<PrefixReuse<B>>,
    masks: MaskWorkers,
    shared: Arc<EngineShared>,
}

impl<B: Backend> Scheduler<B> {
    pub(crate) fn new(model: Model<B>, prefix: &PrefixOptions, shared: Arc<EngineShared>) -> Self {
        let count = shared.limits.slots;
        Self {
            slots: model.slots(count),
            ahead: None,
            count: 0,
            free: (0..count).rev().map(SlotId).collect(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            reuse: PrefixReuse::new(prefix, &model, &shared),
            masks: MaskWorkers::default(),
            model,
            shared,
        }
    }

    /// Serves until every handle is gone and the last sequence is done.
    pub(crate) fn run(mut self, inbox: &Receiver<Option<QueuedRequest>>) {
        while self.receive(inbox) {
            self.release_cancelled();
            self.continue_restore(Duration::ZERO);
            self.admit();
            self.settle_masks();
            let begun = Instant::now();
            let mut rows = 0;
            let pass = match self.ahead.take() {
                Some(pass) => pass,
                None => {
                    let batch = self.plan();
                    if batch.is_empty() {
                        self.wait_for_work();
                        continue;
                    }
                    rows = batch.tokens.len();
                    self.launch(&batch, None)
                }
            };
            self.ahead = self.launch_ahead(&pass);
            self.complete(pass);
            if let Some(reuse) = &mut self.reuse {
                reuse.measured(rows, begun.elapsed());
                reuse.write_due(self.model.backend(), &mut self.slots);
            }
        }
        if let Some(reuse) = &mut self.reuse {
            reuse.finish(self.model.backend(), &mut self.slots);
        }
    }

    /// Frees what is kept for reuse beyond what reservations leave.
    fn shrink_reuse(&mut self) {
        if let Some(reuse) = &mut self.reuse {
            reuse.shrink(self.model.backend(), &mut self.slots);
        }
    }

    fn release_where(&mut self, done: impl Fn(&Running) -> bool) -> usize {
        let before = self.running.len();
        for running in self.running.extract_if(.., |running| done(running)) {
            if let (Some(reuse), Some(sequence)) = (&mut self.reuse, &running.reuse)
                && let Some(tokens) = running.sequence.first(running.len)
            {
                let state = SlotState {
                    backend: self.model.backend(),
                    slots: &mut self.slots,
                    slot: running.slot,
                };
                reuse.at_end(state, sequence, &tokens, running.memory.bytes());
            }
            self.model.backend().clear(&mut self.slots, running.slot);
            self.free.push(running.slot);
            let held = running.since.elapsed().as_millis() as u64;
            let mean = self.shared.slot_ms.load(Relaxed);
            self.shared.slot_ms.store((mean * 7 + held) / 8, Relaxed);
        }
        before - self.running.len()
    }

    /// Continues the sequences that skipped a pass and whose masks are known now, and ends those that cannot continue.
    fn settle_masks(&mut self) {
        let mut ended = Vec::new();
        let (mut owners, mut held) = (Vec::new(), Vec::new());
        for running in &mut self.running {
            if !running.sequence.waits_for_mask() {
                continue;
            }
            let last = running.sequence.settle(&mut self.masks);
            if !last.is_empty() {
                ended.push((running.number, running.events.clone(), last));
            } else if let Some(logits) = running.sequence.take_held() {
                owners.push(running.number);
                held.push(logits);
            }
        }
        self.end(ended);
        if !owners.is_empty() {
            let rows = held.iter_mut().map(|row| PassResult::Logits(row));
            self.choose(&owners, rows.collect());
        }
    }

    fn report_load(&self) {
        let queued = self.shared.waiting.load(Relaxed);
        self.shared.heartbeat.set_load(self.running.len(), queued);
    }

    /// One row of every sequence that is being generated, and up to a chunk of prompt rows.
    fn plan(&self) -> Batch {
        let mut batch = Batch::default();
        let mut prompts = Vec::new();
        let ready = |running: &&Running| !running.sequence.waits_for_mask();
        for running in self.running.iter().filter(ready) {
            match running.sequence.pending() {
                pending if running.sequence.in_prompt() => {
                    let end = running.reuse.as_ref().and_then(|r| r.next_end(running.len));
                    let most = end.map_or(usize::MAX, |end| end - running.len);
                    prompts.push((pending.len().min(most), running));
                }
                pending => batch.push(running.slot, pending, true),
            }
        }
        // Shortest first, each at most an even share of the rest: the chunk is filled whenever that is possible.
        prompts.sort_by_key(|(len, _)| *len);
        // At least one row each, so that a long prompt is not starved by new short ones.
        let mut shares = RowShares::new(self.shared.limits.prefill_chunk, prompts.len());
        let scores = |(_, running): &&(usize, &Running)| running.sequence.scores_prompt();
        let mut scored = RowShares::new(
            rows_per_pass(self.shared.vocab),
            prompts.iter().filter(scores).count(),
        );
        for (len, running) in prompts {
            if running.sequence.scores_prompt() {
                let share = shares.take(scored.take(len));
                batch.push_scored(running.slot, &running.sequence.pending()[..share]);
            } else {
                let share = shares.take(len);
                let pending = running.sequence.pending();
                batch.push(running.slot, &pending[..share], share == pending.len());
            }
        }
        batch
    }

    /// Enqueues a pass; its tokens are those of the batch, or those that another pass has `chosen`.
    fn launch(&mut self, batch: &Batch, chosen: Option<&B::Chosen>) -> PendingPass<B> {
        for segment in &batch.segments {
            let running = self.running.iter_mut().find(|r| r.slot == segment.slot);
            if let Some(Running { sequence, .. }) = running
                && (!sequence.in_prompt() || sequence.pending().len() == segment.len)
            {
                sequence.prepare_mask(&mut self.masks);
            }
        }
        let shared = Arc::clone(&self.shared);
        let beat = || {
            freeze::pass(Point::Layer);
            shared.heartbeat.beat();
        };
        let logits = match chosen {
            None => self.model.forward(batch, &mut self.slots, beat),
            Some(chosen) => self.model.follow(batch, chosen, &mut self.slots, beat),
        };
        shared.stats.passes.fetch_add(1, Relaxed);
        shared
            .stats
            .rows
            .fetch_add(batch.tokens.len() as u64, Relaxed);
        let mut owners = Vec::new();
        let mut masks = Vec::new();
        let mut all_greedy = true;
        let deadline = Instant::now() + MASK_WAIT;
        for segment in &batch.segments {
            let Some(running) = self.running.iter_mut().find(|r| r.slot == segment.slot) else {
                continue;
            };
            running.len += segment.len;
            let scored = running.sequence.scored(segment.len);
            if running.sequence.in_prompt() {
                running.sequence.advance(segment.len);
                shared
                    .stats
                    .prompt_tokens
                    .fetch_add(segment.len as u64, Relaxed);
                if let (Some(reuse), Some(sequence)) = (&mut self.reuse, &mut running.reuse) {
                    let state = SlotState {
                        backend: self.model.backend(),
                        slots: &mut self.slots,
                        slot: segment.slot,
                    };
                    let tokens = &running.sequence.prompt()[..running.len];
                    reuse.at_point(state, sequence, tokens);
                }
            }
            let chooses = !running.sequence.in_prompt();
            if chooses {
                masks.push(match running.sequence.mask(deadline) {
                    MaskStatus::Only(mask) => Some(mask),
                    MaskStatus::All | MaskStatus::Complete | MaskStatus::Failed(_) => None,
                    // The sequence keeps the logits until its mask is known.
                    MaskStatus::Late => {
                        all_greedy = false;
                        None
                    }
                });
            }
            if chooses || !scored.is_empty() {
                all_greedy &= running.sequence.is_greedy();
                owners.push(PassOwner {
                    number: running.number,
                    scored,
                    chooses,
                });
            }
        }
        let results: usize = owners.iter().map(PassOwner::results).sum();
        debug_assert_eq!(results, batch.outputs.len());
        let outcome = match logits {
            None => PassOutput::Nothing,
            Some(logits) => {
                let backend = self.model.backend();
                let chosen = all_greedy
                    .then(|| backend.argmax(&logits, &masks))
                    .flatten();
                chosen.map_or(PassOutput::Logits(logits), PassOutput::Chosen)
            }
        };
        PendingPass { owners, outcome }
    }

    /// Enqueues the pass after `pass` if its batch is known already: the same sequences, one more token each, and no others.
    fn launch_ahead(&mut self, pass: &PendingPass<B>) -> Option<PendingPass<B>> {
        let PassOutput::Chosen(chosen) = &pass.outcome else {
            return None;
        };
        let mut batch = Batch::default();
        for owner in &pass.owners {
            let running = self.running.iter().find(|r| r.number == owner.number)?;
            if running.sequence.ends_next() || running.sequence.is_constrained() {
                return None;
            }
            batch.push(running.slot, &[0], true);
        }
        if self.running.len() > batch.segments.len() {
            return None;
        }
        Some(self.launch(&batch, Some(chosen)))
    }
}
