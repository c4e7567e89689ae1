//! Requests on their way from the inbox into a slot.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::{Running, Scheduler, Waiting};
use crate::backend::Backend;
use crate::backend::batch::SlotId;
use crate::prefix::scope::Reuse;
use crate::schedule::reuse::{DiskWait, Leader, PrefixReuse, SequenceReuse, SlotState, Upkeep};
use crate::schedule::sequence::Sequence;
use crate::schedule::shared::QueuedRequest;

impl<B: Backend> Scheduler<B> {
    /// Waits for a request; meanwhile does what was put off until the engine is idle. None when there will be no more.
    fn wait_for_request(
        &mut self,
        inbox: &Receiver<Option<QueuedRequest>>,
    ) -> Option<Option<QueuedRequest>> {
        loop {
            let wait = match self.upkeep() {
                Upkeep::More(wait) => wait,
                Upkeep::Disabled => {
                    self.reuse = None;
                    Duration::ZERO
                }
                Upkeep::Done => {
                    self.model.backend().idle(&mut self.slots);
                    return inbox.recv().ok();
                }
            };
            if !wait.is_zero() {
                self.model.backend().idle(&mut self.slots);
            }
            match inbox.recv_timeout(wait) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// A piece of the work for reused prefixes that waits until the engine is idle.
    fn upkeep(&mut self) -> Upkeep {
        match (&mut self.reuse, self.free.last()) {
            (Some(reuse), Some(&slot)) => reuse.idle(&self.model, &mut self.slots, slot),
            _ => Upkeep::Done,
        }
    }

    /// Receives new requests; waits for one if there is nothing else to do. False when there will be no more.
    pub(super) fn receive(&mut self, inbox: &Receiver<Option<QueuedRequest>>) -> bool {
        while self.running.is_empty() && self.waiting.is_empty() {
            let next = match inbox.try_recv() {
                // Idle only if no request is here already: it would have to allocate the backend's memory again.
                Err(TryRecvError::Empty) => self.wait_for_request(inbox),
                next => next.ok(),
            };
            if let Some(reuse) = &mut self.reuse {
                reuse.pause(self.model.backend(), &mut self.slots);
            }
            match next {
                Some(message) => self.enqueue(message),
                None => return false,
            }
        }
        loop {
            match inbox.try_recv() {
                Ok(message) => self.enqueue(message),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => {
                    return !(self.running.is_empty() && self.waiting.is_empty());
                }
            }
        }
    }

    /// Receives a request, or that the memory budget has changed.
    fn enqueue(&mut self, message: Option<QueuedRequest>) {
        match message {
            Some(queued) => self.waiting.push_back(Waiting {
                queued,
                for_prefix: false,
                for_disk: DiskWait::default(),
            }),
            None => self.shrink_reuse(),
        }
    }

    /// Releases requests whose client has disconnected.
    pub(super) fn release_cancelled(&mut self) {
        let before = self.waiting.len();
        self.waiting
            .retain(|waiting| !waiting.queued.events.is_closed());
        let left = before - self.waiting.len();
        self.shared.waiting.fetch_sub(left, Relaxed);
        if let Some(reuse) = self.reuse.as_mut().filter(|_| left > 0) {
            let waiting = self.waiting.iter();
            reuse.end_unwanted_restore(waiting.map(|waiting| &waiting.queued.request));
        }
        let gone = self.release_where(|running| running.events.is_closed());
        self.shared
            .stats
            .cancelled
            .fetch_add((left + gone) as u64, Relaxed);
    }

    /// Gives slots to waiting requests, in the order of their arrival, while there are slots and memory. One that waits for a prefix,
    /// which another one computes or which is read from disk, lets others go first.
    pub(super) fn admit(&mut self) {
        let (mut index, mut is_full) = (0, false);
        while let Some(&slot) = self.free.last()
            && index < self.waiting.len()
        {
            // After one that does not fit, only those are admitted that have their memory: it may need what they hold.
            let has_memory = self.waiting[index].queued.memory.has_begun();
            if (is_full && !has_memory) || self.waits_for_prefix(index) {
                index += 1;
                continue;
            }
            if !self.waiting[index].queued.memory.begin() {
                is_full = true;
                index += 1;
                continue;
            }
            self.shrink_reuse();
            // It has its memory, so that what is read for it is not evicted for it.
            if self.waits_for_disk(index) {
                index += 1;
                continue;
            }
            let Some(Waiting { queued, .. }) = self.waiting.remove(index) else {
                break;
            };
            self.free.pop();
            self.start(slot, queued);
            self.shared.waiting.fetch_sub(1, Relaxed);
        }
        self.report_load();
    }

    /// Whether a waiting request should go on waiting, for a prefix that another one computes.
    fn waits_for_prefix(&mut self, index: usize) -> bool {
        let waiting = &mut self.waiting[index];
        let request = &waiting.queued.request;
        let (Some(reuse), Reuse::Scope(scope)) = (&self.reuse, request.reuse) else {
            return false;
        };
        let running = self.running.iter_mut().filter_map(|running| {
            Some(Leader {
                reuse: running.reuse.as_mut()?,
                prompt: running.sequence.prompt(),
                computed: running.len,
            })
        });
        let waits = reuse.waits(scope, &request.prompt, running);
        if waits && !waiting.for_prefix {
            waiting.for_prefix = true;
            self.shared.stats.prefix_waits.fetch_add(1, Relaxed);
        }
        waits
    }

    /// Whether a waiting request should go on waiting, for a prefix that is read from disk.
    fn waits_for_disk(&mut self, index: usize) -> bool {
        let Waiting {
            queued, for_disk, ..
        } = &mut self.waiting[index];
        let request = &queued.request;
        let (Some(reuse), Reuse::Scope(scope)) = (&mut self.reuse, request.reuse) else {
            return false;
        };
        let (backend, slots) = (self.model.backend(), &mut self.slots);
        reuse.waits_for_disk(backend, slots, scope, &request.prompt, for_disk)
    }

    /// Continues with what was read from disk for a waiting request, and waits for it for `wait` at most.
    pub(super) fn continue_restore(&mut self, wait: Duration) {
        if let Some(reuse) = &mut self.reuse {
            reuse.continue_restore(self.model.backend(), &mut self.slots, wait);
        }
    }

    /// Starts a request in a slot, behind the longest prefix of its prompt that is kept.
    fn start(&mut self, slot: SlotId, queued: QueuedRequest) {
        let QueuedRequest {
            request,
            events,
            memory,
        } = queued;
        let scope = match request.reuse {
            Reuse::Scope(scope) => Some(scope),
            Reuse::Off => None,
        };
        let mut sequence = Sequence::new(request, &self.shared.text);
        let reuse = scope.zip(self.reuse.as_mut()).map(|(scope, reuse)| {
            let prompt = sequence.prompt();
            let known = self.running.iter().filter_map(|running| {
                let other = running.reuse.as_ref()?;
                Some(other.shared(running.sequence.prompt(), scope, prompt))
            });
            let known = known.max().unwrap_or(0);
            let state = SlotState {
                backend: self.model.backend(),
                slots: &mut self.slots,
                slot,
            };
            reuse.begin(state, scope, prompt, known)
        });
        let start = reuse.as_ref().map_or(0, SequenceReuse::start);
        sequence.skip(start);
        self.count += 1;
        self.running.push(Running {
            number: self.count,
            slot,
            since: Instant::now(),
            len: start,
            memory,
            events,
            sequence,
            reuse,
        });
    }

    /// Waits while no sequence has a row for a pass: for masks, for the disk, or for memory, because answers that are still
    /// being written hold it and the next request does not fit. Requests may arrive or be cancelled meanwhile, so the wait is
    /// short, and the heartbeat beats: the engine is not hung.
    pub(super) fn wait_for_work(&mut self) {
        const POLL: Duration = Duration::from_millis(20);
        if !self.running.is_empty() {
            self.masks.wait(POLL);
            self.shared.heartbeat.beat();
        } else if !self.waiting.is_empty() {
            match self.reuse.as_ref().is_some_and(PrefixReuse::is_restoring) {
                true => self.continue_restore(POLL),
                false => self.shared.admission.wait_for_release(POLL),
            }
            self.shared.heartbeat.beat();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize};

    use tokio::sync::mpsc;

    use super::*;
    use crate::backend::cost::ExtraCost;
    use crate::backend::{CpuBackend, Precision};
    use crate::graph::Model;
    use crate::load::{HostModel, ModelSource};
    use crate::prefix::options::PrefixOptions;
    use crate::prefix::status::PrefixStatus;
    use crate::sampling::Sampling;
    use crate::schedule::admission::Admission;
    use crate::schedule::heartbeat::Heartbeat;
    use crate::schedule::request::Request;
    use crate::schedule::shared::{EngineLimits, EngineShared};
    use crate::text::Text;

    /// Tokens of a request, prompt and answer together.
    const TOKENS: usize = 64;

    /// A scheduler with memory for one request and a half.
    fn scheduler() -> Scheduler<CpuBackend> {
        let source = ModelSource::Embedded;
        let host = HostModel::open(&source, |_, _| {}).unwrap();
        let text = Text::open(&source, &host.config).unwrap();
        let backend = CpuBackend::new(&host.config, 1, Precision::Fast);
        let model = Model::new(backend, host.config, host.weights);
        let cost = model.backend().cost(&model.config);
        let shared = EngineShared {
            limits: EngineLimits {
                slots: 2,
                queue: 8,
                prefill_chunk: 16,
                context: 256,
            },
            admission: Arc::new(Admission::new(cost, cost.of(TOKENS) * 3 / 2)),
            vocab: model.config.vocab,
            text,
            heartbeat: Arc::new(Heartbeat::new()),
            stats: Arc::default(),
            prefix: PrefixStatus::default(),
            waiting: AtomicUsize::new(0),
            slot_ms: AtomicU64::new(0),
        };
        Scheduler::new(model, &PrefixOptions::off(), Arc::new(shared))
    }

    fn submit(scheduler: &mut Scheduler<CpuBackend>) {
        let admission = &scheduler.shared.admission;
        let memory = admission.reserve(1, TOKENS - 1, ExtraCost::default());
        let (events, _) = mpsc::channel(1);
        let queued = QueuedRequest {
            request: Request {
                prompt: vec![1],
                max_tokens: TOKENS - 1,
                sampling: Sampling::default(),
                stop: Vec::new(),
                logprobs: None,
                score_prompt: false,
                constraint: None,
                ignore_eos: true,
                reuse: Reuse::Off,
            },
            events,
            memory: memory.unwrap(),
        };
        scheduler.shared.waiting.fetch_add(1, Relaxed);
        scheduler.enqueue(Some(queued));
    }

    #[test]
    fn request_that_has_its_memory_passes_one_that_does_not_fit() {
        let mut scheduler = scheduler();
        (0..3).for_each(|_| submit(&mut scheduler));
        // The first one waited for a prefix then, and this one has waited for the disk since.
        assert!(scheduler.waiting[1].queued.memory.begin());
        scheduler.admit();
        assert_eq!((scheduler.running.len(), scheduler.waiting.len()), (1, 2));
        let mut waiting = scheduler.waiting.iter();
        assert!(waiting.all(|waiting| !waiting.queued.memory.has_begun()));
        scheduler.release_where(|_| true);
        scheduler.admit();
        assert_eq!((scheduler.running.len(), scheduler.waiting.len()), (1, 1));
    }
}
