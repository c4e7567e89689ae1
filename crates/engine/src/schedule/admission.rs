//! Whether a sequence fits into memory, decided before it is begun.
//!
//! Every sequence reserves what it may come to need: a share that does not grow, for the recurrent layers, and so
//! much a token, for keys and values. Together the running ones never reserve more than there is, so that a burst of
//! long prompts waits instead of driving the machine into swapping. What waits counts too: a budget that is lowered for
//! a while, since another engine needs memory beside this one, stays large enough for each request that was taken.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sanctum_kernels::KvMode;

use crate::backend::cost::{ExtraCost, SequenceCost};
use crate::schedule::request::SubmitError;

/// Tokens that an answer of no stated length may have even if a slot's even share of memory holds fewer.
const SHORT_ANSWER: usize = 1024;

/// The memory that sequences may take, and what is reserved of it.
#[derive(Debug)]
pub struct Admission {
    /// What one of them takes.
    pub cost: SequenceCost,
    ledger: Mutex<MemoryLedger>,
    /// Notified when memory of an answer is released that outlived its sequence.
    released: Condvar,
}

#[derive(Debug)]
struct MemoryLedger {
    /// Bytes for all sequences.
    budget: u64,
    /// What `budget` is when no other engine needs a part of it.
    full: u64,
    /// Bytes that running ones have reserved.
    reserved: u64,
    /// Bytes that each waiting request will reserve. None exceeds `budget`.
    waiting: Vec<u64>,
}

/// The memory that requests hold at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldMemory {
    /// Reserved by running requests.
    pub running: u64,
    /// Will be reserved by the largest waiting request.
    pub largest_waiting: u64,
}

/// One request's share of the memory: promised while it waits, reserved while it runs, released when it is dropped. The
/// part in [`Reservation::kept`] is released later, with the last handle to it.
#[derive(Debug)]
pub struct Reservation {
    admission: Arc<Admission>,
    /// Bytes of the sequence, without those that the answer keeps.
    bytes: u64,
    kept: KeptMemory,
    runs: bool,
}

/// The part of a [`Reservation`] for what an answer keeps of each of its tokens beside the caches. It is reserved until
/// the last handle is dropped: the answer may be written long after its sequence has ended.
#[derive(Clone, Debug)]
pub struct KeptMemory(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    admission: Arc<Admission>,
    /// Bytes of one token.
    per_token: u64,
    /// Bytes of it that the ledger's `reserved` includes; none while the request waits.
    reserved: Mutex<u64>,
    /// Bytes of the prompt and of all tokens that the answer may have.
    most: u64,
}

impl Admission {
    /// So many bytes for sequences of this cost.
    pub fn new(cost: SequenceCost, budget: u64) -> Self {
        let ledger = MemoryLedger {
            budget,
            full: budget,
            reserved: 0,
            waiting: Vec::new(),
        };
        Self {
            cost,
            ledger: Mutex::new(ledger),
            released: Condvar::new(),
        }
    }

    /// Without a limit.
    pub fn unlimited() -> Self {
        let cost = SequenceCost {
            fixed: 0,
            per_token: 0,
            kv_cache: KvMode::Plain,
            page: 1,
        };
        Self::new(cost, u64::MAX)
    }

    /// Bytes for all of them.
    pub fn budget(&self) -> u64 {
        self.ledger().budget
    }

    /// Bytes that running ones have reserved.
    pub fn reserved(&self) -> u64 {
        self.ledger().reserved
    }

    /// Bytes of the budget that are not reserved.
    pub(crate) fn left(&self) -> u64 {
        let ledger = self.ledger();
        ledger.budget.saturating_sub(ledger.reserved)
    }

    /// Lowers the budget while another engine needs memory: `choose` gets the memory in use and returns the new budget, together
    /// with a result of its own; both happen atomically.
    ///
    /// # Errors
    /// Those of `choose`; then nothing changes.
    pub fn lower<T, E>(
        &self,
        choose: impl FnOnce(HeldMemory) -> Result<(u64, T), E>,
    ) -> Result<T, E> {
        let mut ledger = self.ledger();
        let (budget, found) = choose(HeldMemory {
            running: ledger.reserved,
            largest_waiting: ledger.waiting.iter().copied().max().unwrap_or(0),
        })?;
        ledger.budget = budget;
        Ok(found)
    }

    /// Records that the budget will grow by so many bytes once another engine has ended.
    pub fn expect(&self, bytes: u64) {
        let mut ledger = self.ledger();
        ledger.full = ledger.budget.saturating_add(bytes);
    }

    /// Restores the full budget.
    pub fn restore(&self) {
        let mut ledger = self.ledger();
        ledger.budget = ledger.full;
    }

    /// How long an answer to a prompt may get: `wanted` if it was asked for by number, else what the even share of
    /// one of `slots` holds, up to `room`. `extra` is what the request takes beside the caches.
    ///
    /// # Errors
    /// If memory would not hold it even without other requests, or holds it only when another engine has ended.
    pub fn answer(
        &self,
        prompt: usize,
        wanted: Option<usize>,
        room: usize,
        slots: usize,
        extra: ExtraCost,
    ) -> Result<usize, SubmitError> {
        let (budget, full) = {
            let ledger = self.ledger();
            (ledger.budget, ledger.full)
        };
        let answer = wanted.unwrap_or_else(|| {
            let share = full / slots.max(1) as u64;
            let share = self.cost.answer_in(share, prompt, extra);
            let most = self.cost.answer_in(budget, prompt, extra);
            share.max(SHORT_ANSWER).min(most).clamp(1, room)
        });
        let tokens = prompt.saturating_add(answer);
        let needed = self.cost.of_answer(prompt, answer, extra);
        let needed_mib = needed.div_ceil(1 << 20);
        match needed {
            needed if needed <= budget => Ok(answer),
            needed if needed <= full => Err(SubmitError::MemoryShared {
                tokens,
                needed_mib,
                available_mib: budget >> 20,
            }),
            _ => Err(SubmitError::TooMuchMemory {
                tokens,
                needed_mib,
                available_mib: full >> 20,
                holds: {
                    let answer = self.cost.answer_in(full, prompt, extra);
                    self.cost
                        .tokens_in(full.saturating_sub(extra.prompt + extra.running))
                        .min(prompt.saturating_add(answer))
                },
            }),
        }
    }

    /// Promises memory to a request of so many tokens; `extra` as for [`Admission::answer`].
    ///
    /// # Errors
    /// If the budget was lowered since the length was decided.
    pub fn reserve(
        self: &Arc<Self>,
        prompt: usize,
        answer: usize,
        extra: ExtraCost,
    ) -> Result<Reservation, SubmitError> {
        let all = self.cost.of_answer(prompt, answer, extra);
        let most = extra.kept(answer);
        let mut ledger = self.ledger();
        if all > ledger.budget {
            return Err(SubmitError::MemoryShared {
                tokens: prompt.saturating_add(answer),
                needed_mib: all.div_ceil(1 << 20),
                available_mib: ledger.budget >> 20,
            });
        }
        ledger.waiting.push(all);
        Ok(Reservation {
            admission: Arc::clone(self),
            bytes: all - most,
            kept: KeptMemory(Arc::new(Kept {
                admission: Arc::clone(self),
                per_token: extra.answer_token,
                reserved: Mutex::new(0),
                most,
            })),
            runs: false,
        })
    }

    /// Waits until memory is released that outlived its sequence, or until `limit` has passed. It may return early.
    pub fn wait_for_release(&self, limit: Duration) {
        let ledger = self.ledger();
        // Whether it timed out makes no difference: the caller tries again.
        drop(self.released.wait_timeout(ledger, limit));
    }

    fn ledger(&self) -> MutexGuard<'_, MemoryLedger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryLedger {
    fn stop_waiting(&mut self, bytes: u64) {
        if let Some(at) = self.waiting.iter().position(|&other| other == bytes) {
            self.waiting.swap_remove(at);
        }
    }
}

impl Reservation {
    /// Reserves the memory if there is enough now; returns whether its request may run.
    pub fn begin(&mut self) -> bool {
        let all = self.all();
        let mut ledger = self.admission.ledger();
        if !self.runs && ledger.reserved.saturating_add(all) <= ledger.budget {
            ledger.stop_waiting(all);
            ledger.reserved += all;
            *self.kept.reserved() = self.kept.0.most;
            self.runs = true;
        }
        self.runs
    }

    /// Whether the memory is reserved.
    pub(crate) fn has_begun(&self) -> bool {
        self.runs
    }

    /// The part that stays reserved after the sequence, for as long as a handle to it exists.
    pub fn kept(&self) -> KeptMemory {
        self.kept.clone()
    }

    /// Bytes that are released with it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn all(&self) -> u64 {
        self.bytes + self.kept.0.most
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut ledger = self.admission.ledger();
        match self.runs {
            true => ledger.reserved -= self.bytes,
            false => ledger.stop_waiting(self.all()),
        }
    }
}

impl KeptMemory {
    /// Releases what is not needed: the answer is complete, and log probabilities of so many tokens are kept, those of the
    /// prompt included.
    pub fn shrink(&self, tokens: usize) {
        let needed = self.0.per_token.saturating_mul(tokens as u64);
        self.0.release_beyond(needed);
    }

    /// Bytes that are reserved. The ledger is locked before it.
    fn reserved(&self) -> MutexGuard<'_, u64> {
        self.0
            .reserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn release_beyond(&self, needed: u64) {
        let mut ledger = self.admission.ledger();
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let released = reserved.saturating_sub(needed);
        *reserved -= released;
        ledger.reserved -= released;
        if released > 0 {
            self.admission.released.notify_all();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.release_beyond(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::request::TokenLogprob;

    const MIB: u64 = 1 << 20;
    const NONE: ExtraCost = ExtraCost {
        answer_token: 0,
        prompt: 0,
        running: 0,
    };

    fn each(answer_token: u64) -> ExtraCost {
        ExtraCost {
            answer_token,
            ..NONE
        }
    }

    fn admission(budget: u64) -> Admission {
        let cost = SequenceCost {
            fixed: 100 * MIB,
            per_token: MIB / 16,
            kv_cache: KvMode::Plain,
            page: 64,
        };
        Admission::new(cost, budget)
    }

    #[test]
    fn a_page_that_is_begun_is_paid_for() {
        let cost = admission(0).cost;
        assert_eq!(cost.of(0), 100 * MIB);
        assert_eq!(cost.of(1), cost.of(64));
        assert_eq!(cost.of(65), 108 * MIB);
    }

    #[test]
    fn a_stated_length_is_granted_or_refused_with_the_numbers() {
        let admission = admission(300 * MIB);
        assert_eq!(admission.answer(1000, Some(2000), 9000, 4, NONE), Ok(2000));
        let refused = admission
            .answer(1000, Some(3000), 9000, 4, NONE)
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "4000 tokens would take 352 MiB of memory and there are 300 MiB, enough for 3200 tokens; \
             shorten the prompt or lower max_tokens"
        );
    }

    #[test]
    fn an_answer_of_no_stated_length_gets_a_slot_s_share() {
        let share =
            |budget: u64, prompt| admission(budget * MIB).answer(prompt, None, 9000, 4, NONE);
        // A quarter of 1200 MiB holds 3200 tokens.
        assert_eq!(share(1200, 200), Ok(3000));
        // A prompt beyond its share may still be answered, while all of the memory holds it.
        assert_eq!(share(1200, 5000), Ok(1024));
        assert_eq!(share(300, 3150), Ok(50));
        assert!(share(300, 3300).is_err());
        assert_eq!(share(1 << 30, 10), Ok(9000));
    }

    #[test]
    fn log_probabilities_are_counted_for_each_token_of_the_answer() {
        let kept = TokenLogprob::bytes(20);
        assert_eq!(kept, 224);
        assert_eq!(TokenLogprob::bytes(0), 64);
        // Small caches: 100 MiB and 4 bytes a token, so that the log probabilities are what counts.
        let cost = SequenceCost {
            fixed: 100 * MIB,
            per_token: 4,
            kv_cache: KvMode::Plain,
            page: 1,
        };
        let admission = Arc::new(Admission::new(cost, 150 * MIB));
        let answer = |wanted, kept| admission.answer(1000, wanted, 1 << 20, 1, each(kept));
        assert_eq!(answer(Some(1_000_000), 0), Ok(1_000_000));
        let refused = answer(Some(1_000_000), kept).unwrap_err().to_string();
        // 50 MiB less 4000 bytes, at 228 a token.
        assert!(
            refused.starts_with("1001000 tokens would take 318 MiB")
                && refused.contains("for 230933 tokens"),
            "{refused}"
        );
        assert_eq!(answer(None, kept), Ok(229_933));
        let mut memory = admission.reserve(1000, 229_933, each(kept)).unwrap();
        assert!(memory.begin());
        assert_eq!(
            admission.reserved(),
            100 * MIB + 4 * 230_933 + kept * 229_933
        );
        assert_eq!(
            Admission::unlimited().answer(5, None, 9000, 4, each(kept)),
            Ok(9000)
        );
    }

    #[test]
    fn memory_that_an_answer_keeps_is_reserved_until_the_answer_is_written() {
        let admission = Arc::new(admission(300 * MIB));
        let mut sequence = admission.reserve(0, 64, each(MIB)).unwrap();
        let answer = sequence.kept();
        assert!(sequence.begin());
        assert_eq!(admission.reserved(), (100 + 4 + 64) * MIB);
        let mut next = admission.reserve(0, 64, each(3 * MIB)).unwrap();
        drop(sequence);
        assert_eq!(admission.reserved(), 64 * MIB);
        assert!(!next.begin(), "296 MiB do not fit beside 64 MiB");
        answer.shrink(10);
        assert_eq!(admission.reserved(), 10 * MIB);
        // A slower thread than this one is woken; this one finds it released.
        let waiting = {
            let admission = admission.clone();
            std::thread::spawn(move || {
                while admission.reserved() > 0 {
                    admission.wait_for_release(Duration::from_secs(30));
                }
            })
        };
        drop(answer);
        waiting.join().unwrap();
        assert!(next.begin());
        drop(next);
        assert_eq!(admission.reserved(), 0);
        // A request that leaves before it runs has nothing to release.
        let waiting = admission.reserve(0, 64, each(MIB)).unwrap();
        let answer = waiting.kept();
        drop(waiting);
        drop(answer);
        assert_eq!(admission.reserved(), 0);
        assert_eq!(
            admission
                .lower(Err::<(u64, ()), HeldMemory>)
                .unwrap_err()
                .largest_waiting,
            0
        );
    }

    #[test]
    fn every_request_fits_without_limit() {
        let admission = Admission::unlimited();
        assert_eq!(admission.answer(5, None, 9000, 4, NONE), Ok(9000));
        assert_eq!(admission.answer(5, Some(7), 9000, 4, NONE), Ok(7));
    }

    #[test]
    fn budget_is_not_lowered_below_running_and_waiting_requests() {
        let admission = Arc::new(admission(1000 * MIB));
        let mut running = admission.reserve(0, 1600, NONE).unwrap();
        assert!(running.begin());
        let mut waiting = admission.reserve(0, 9600, NONE).unwrap();
        let left = waiting.admission.reserve(0, 12_800, NONE).unwrap();
        // A choice that fails changes nothing.
        let held = admission.lower(Err::<(u64, ()), HeldMemory>);
        let expected = HeldMemory {
            running: 200 * MIB,
            largest_waiting: 900 * MIB,
        };
        assert_eq!(held, Err(expected));
        assert_eq!(admission.budget(), 1000 * MIB);
        drop(left);
        assert_eq!(
            admission.lower(|held| Ok::<_, ()>((held.largest_waiting, ()))),
            Ok(())
        );
        assert_eq!(admission.budget(), 700 * MIB);
        // A new request is asked to retry; one that was promised memory gets it, before the budget is restored.
        let refused = admission
            .answer(1000, Some(9000), 9000, 4, NONE)
            .unwrap_err();
        assert!(
            matches!(refused, SubmitError::MemoryShared { .. }),
            "{refused}"
        );
        assert!(matches!(
            admission.reserve(0, 10_000, NONE).unwrap_err(),
            SubmitError::MemoryShared { .. }
        ));
        assert!(!waiting.begin());
        drop(running);
        assert!(waiting.begin());
        assert_eq!(admission.reserved(), 700 * MIB);
        admission.restore();
        assert_eq!(admission.answer(1000, Some(9000), 9000, 4, NONE), Ok(9000));
        drop(waiting);
        assert_eq!(admission.reserved(), 0);
    }

    #[test]
    fn memory_freed_later_counts_for_lengths_but_not_for_reservations() {
        let admission = Arc::new(admission(400 * MIB));
        admission.expect(800 * MIB);
        // A quarter of 1200 MiB, which fits already.
        assert_eq!(admission.answer(200, None, 9000, 4, NONE), Ok(3000));
        // More than 400 MiB hold is asked for again later.
        let refused = admission
            .answer(200, Some(8000), 9000, 4, NONE)
            .unwrap_err();
        assert!(
            refused.to_string().contains("while an adapter is swapped"),
            "{refused}"
        );
        admission.restore();
        assert_eq!(admission.answer(200, Some(8000), 9000, 4, NONE), Ok(8000));
    }
}
