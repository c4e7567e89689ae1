//! The check of reused prefixes: some are computed again when the engine is idle, and compared.
//!
//! A record holds what a request's slot held when its prefix was restored. The check computes the same tokens in an empty slot,
//! chooses the next tokens greedily, then continues the record with the same tokens: the logits behind the prefix and behind each
//! of these tokens must be equal, or as near as the backend promises ([`Backend::tolerance`]). Each [`Oracle::step`] is one pass, so that a
//! request waits for one pass at most; the check begins again later.

use std::collections::VecDeque;
use std::fmt;

use crate::backend::Backend;
use crate::backend::batch::{Batch, SlotId};
use crate::graph::Model;
use crate::prefix::scope::Scope;

/// Tokens that are chosen and compared behind the first.
const FOLLOWING: usize = 8;
/// Records that wait. More are not taken: each holds memory.
const MOST_RECORDS: usize = 2;

/// Which reused prefixes wait for their check, and the check that runs.
pub(crate) struct Oracle<B: Backend> {
    /// The share of reused prefixes that are recorded.
    share: f64,
    /// Grows by `share` with each reused prefix; one is recorded when it reaches 1.
    due: f64,
    records: VecDeque<ReusedPrefix<B>>,
    check: Option<OracleCheck>,
}

/// A reused prefix.
struct ReusedPrefix<B: Backend> {
    scope: Scope,
    /// The tokens of the prefix, and the one behind it.
    tokens: Vec<u32>,
    /// What the request's slot held.
    snapshot: B::Snapshot,
}

/// How far the check of the first record is.
struct OracleCheck {
    slot: SlotId,
    /// Tokens that the slot holds.
    fed: usize,
    /// The record's tokens, and those that were chosen behind them.
    tokens: Vec<u32>,
    /// The logits behind the prefix, and behind each token that was chosen.
    computed: Vec<Vec<f32>>,
    /// Logits of the restored prefix that were compared; none while the prefix is being computed.
    compared: Option<usize>,
}

/// A reused prefix that is not equal to the computed one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) scope: Scope,
    /// Tokens of the prefix.
    pub(crate) prefix: usize,
    /// The position whose logits differ.
    pub(crate) position: usize,
    /// The largest distance of two logits, in standard deviations; infinite if one is not finite.
    pub(crate) distance: f64,
}

/// What one step did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CheckProgress {
    /// There is no record.
    Idle,
    /// The check continues with the next step.
    Running,
    /// The prefix is equal.
    Equal,
    /// It is not.
    Different(Difference),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a reused prefix of {} tokens in scope {} is not equal to the computed one: logits at position {} differ by {:.2e} \
             standard deviations",
            self.prefix, self.scope, self.position, self.distance
        )
    }
}

impl<B: Backend> Oracle<B> {
    /// Checks a share, from 0 to 1, of the reused prefixes.
    pub(crate) fn new(share: f64) -> Self {
        Self {
            share: share.clamp(0.0, 1.0),
            due: 0.0,
            records: VecDeque::new(),
            check: None,
        }
    }

    /// Counts a reused prefix; returns whether it is to be recorded.
    pub(crate) fn is_due(&mut self) -> bool {
        self.due += self.share;
        let due = self.due >= 1.0;
        if due {
            self.due -= 1.0;
        }
        due && self.records.len() < MOST_RECORDS
    }

    /// Records a reused prefix: `tokens` are its tokens and the one behind it, `snapshot` what the request's slot holds now.
    pub(crate) fn record(&mut self, scope: Scope, tokens: &[u32], snapshot: B::Snapshot) {
        self.records.push_back(ReusedPrefix {
            scope,
            tokens: tokens.to_vec(),
            snapshot,
        });
    }

    /// The most tokens that the next check will hold in its slot; none if nothing is recorded.
    pub(crate) fn next_tokens(&self) -> Option<usize> {
        let record = self.records.front()?;
        Some(record.tokens.len() + FOLLOWING)
    }

    /// The lengths of the recorded prefixes, whose snapshots hold memory.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.records.iter().map(|record| record.tokens.len() - 1)
    }

    /// Whether a check runs, which holds a slot.
    #[cfg(test)]
    pub(crate) fn is_running(&self) -> bool {
        self.check.is_some()
    }

    /// Stops the check that runs, since a request arrived. It begins again later.
    pub(crate) fn pause(&mut self, backend: &B, slots: &mut B::Slots) {
        if let Some(check) = self.check.take() {
            backend.clear(slots, check.slot);
        }
    }

    /// Drops all records.
    pub(crate) fn clear(&mut self, backend: &B, slots: &mut B::Slots) {
        self.pause(backend, slots);
        for record in self.records.drain(..) {
            backend.release(slots, record.snapshot);
        }
    }

    /// Computes one pass of the check of the first record, in the empty slot `slot`, with at most `chunk` tokens.
    pub(crate) fn step(
        &mut self,
        model: &Model<B>,
        slots: &mut B::Slots,
        slot: SlotId,
        chunk: usize,
        beat: impl FnMut(),
    ) -> CheckProgress {
        let backend = model.backend();
        let Some(record) = self.records.front() else {
            return CheckProgress::Idle;
        };
        let check = self
            .check
            .get_or_insert_with(|| OracleCheck::new(slot, record.tokens.clone()));
        let prefix = record.tokens.len() - 1;
        let result = match check.compared {
            None => {
                check.compute(model, slots, prefix, chunk, beat);
                if check.computed.len() > FOLLOWING {
                    backend.clear(slots, slot);
                    backend.restore(slots, slot, &record.snapshot);
                    check.fed = prefix;
                    check.compared = Some(0);
                }
                CheckProgress::Running
            }
            Some(compared) => {
                let got = check.feed(model, slots, 1, beat);
                let far = distance(&got, &check.computed[compared], backend.tolerance());
                check.compared = Some(compared + 1);
                match far {
                    Some(distance) => CheckProgress::Different(Difference {
                        scope: record.scope,
                        prefix,
                        position: check.fed - 1,
                        distance,
                    }),
                    None if compared == FOLLOWING => CheckProgress::Equal,
                    None => CheckProgress::Running,
                }
            }
        };
        if result != CheckProgress::Running {
            self.check = None;
            backend.clear(slots, slot);
            if let Some(record) = self.records.pop_front() {
                backend.release(slots, record.snapshot);
            }
        }
        result
    }
}

impl OracleCheck {
    fn new(slot: SlotId, tokens: Vec<u32>) -> Self {
        Self {
            slot,
            fed: 0,
            tokens,
            computed: Vec::new(),
            compared: None,
        }
    }

    /// Computes the next tokens; behind the prefix one a pass, each the most likely one.
    fn compute<B: Backend>(
        &mut self,
        model: &Model<B>,
        slots: &mut B::Slots,
        prefix: usize,
        chunk: usize,
        beat: impl FnMut(),
    ) {
        let count = (prefix + 1 - self.fed.min(prefix)).min(chunk.max(1));
        let logits = self.feed(model, slots, count, beat);
        if self.fed > prefix {
            if self.computed.len() < FOLLOWING {
                self.tokens.push(greedy(&logits));
            }
            self.computed.push(logits);
        }
    }

    /// Feeds the next `count` tokens; returns the logits of the last one.
    fn feed<B: Backend>(
        &mut self,
        model: &Model<B>,
        slots: &mut B::Slots,
        count: usize,
        beat: impl FnMut(),
    ) -> Vec<f32> {
        let mut batch = Batch::default();
        batch.push(self.slot, &self.tokens[self.fed..self.fed + count], true);
        self.fed += count;
        let logits = model.forward(&batch, slots, beat);
        logits.map_or_else(Vec::new, |logits| model.backend().read(logits))
    }
}

/// The first of the largest logits.
fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// The largest distance of two logits, in standard deviations of `expected`, if they differ by more than `tolerance`: without one,
/// if any bit is another.
fn distance(got: &[f32], expected: &[f32], tolerance: Option<f64>) -> Option<f64> {
    let pairs = || got.iter().zip(expected);
    let equal = pairs().all(|(a, b)| a.to_bits() == b.to_bits());
    if equal && got.len() == expected.len() {
        return None;
    }
    let count = expected.len() as f64;
    let mean = expected.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let squares = expected.iter().map(|&x| (f64::from(x) - mean).powi(2));
    let sigma = (squares.sum::<f64>() / count).sqrt();
    let far = pairs().map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    // `max` would ignore what is not a number.
    let far = far.fold(0.0, |most: f64, far| {
        if far > most || far.is_nan() {
            far
        } else {
            most
        }
    });
    let far = far / sigma;
    let far = if far.is_finite() { far } else { f64::INFINITY };
    match tolerance {
        Some(tolerance) if far <= tolerance && got.len() == expected.len() => None,
        _ => Some(far),
    }
}

#[cfg(test)]
mod tests {
    use sanctum_kernels::cpu::Precision;

    use super::*;
    use crate::backend::CpuBackend;
    use crate::load::{HostModel, ModelSource};

    const SLOT: SlotId = SlotId(1);

    fn model() -> Model<CpuBackend> {
        let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
        let backend = CpuBackend::new(&host.config, 1, Precision::Fast);
        Model::new(backend, host.config, host.weights)
    }

    fn tokens(len: usize) -> Vec<u32> {
        (0..len as u32).map(|i| (i * 37 + 11) % 1000).collect()
    }

    /// A snapshot of the prefix `tokens`.
    fn snapshot(
        model: &Model<CpuBackend>,
        slots: &mut <CpuBackend as Backend>::Slots,
        tokens: &[u32],
    ) -> <CpuBackend as Backend>::Snapshot {
        let mut batch = Batch::default();
        batch.push(SlotId(0), tokens, false);
        model.forward(&batch, slots, || {});
        let snapshot = model.backend().snapshot(slots, SlotId(0));
        model.backend().clear(slots, SlotId(0));
        snapshot
    }

    /// Steps until the first record is checked; gives the result and the number of steps.
    fn checked(
        oracle: &mut Oracle<CpuBackend>,
        model: &Model<CpuBackend>,
        slots: &mut <CpuBackend as Backend>::Slots,
    ) -> (CheckProgress, usize) {
        for steps in 1..100 {
            match oracle.step(model, slots, SLOT, 16, || {}) {
                CheckProgress::Running => {}
                done => return (done, steps),
            }
        }
        panic!("the check does not end");
    }

    #[test]
    fn equal_prefix_passes_after_a_pause_too() {
        let model = model();
        let mut slots = model.slots(2);
        let mut oracle = Oracle::new(1.0);
        let tokens = tokens(41);
        assert!(oracle.is_due());
        let kept = snapshot(&model, &mut slots, &tokens[..40]);
        oracle.record(Scope::default(), &tokens, kept);
        assert_eq!(oracle.next_tokens(), Some(49));
        for steps in [2, 7, 15] {
            for _ in 0..steps {
                oracle.step(&model, &mut slots, SLOT, 16, || {});
            }
            assert!(oracle.is_running());
            oracle.pause(model.backend(), &mut slots);
            assert!(!oracle.is_running());
        }
        // 41 tokens in 3 passes, 8 more in as many, 9 comparisons.
        let done = checked(&mut oracle, &model, &mut slots);
        assert_eq!(done, (CheckProgress::Equal, 20));
        let done = oracle.step(&model, &mut slots, SLOT, 16, || {});
        assert_eq!(done, CheckProgress::Idle);
    }

    #[test]
    fn snapshot_of_other_tokens_is_found_at_the_first_position() {
        let model = model();
        let mut slots = model.slots(2);
        let mut oracle = Oracle::new(1.0);
        let tokens = tokens(41);
        let mut other = tokens[..40].to_vec();
        other[3] += 1;
        let kept = snapshot(&model, &mut slots, &other);
        oracle.record(Scope::default(), &tokens, kept);
        let (done, _) = checked(&mut oracle, &model, &mut slots);
        let CheckProgress::Different(difference) = done else {
            panic!("{done:?}");
        };
        assert_eq!((difference.prefix, difference.position), (40, 40));
        assert!(difference.distance > 0.0);
        let text = difference.to_string();
        assert!(
            text.contains("40 tokens") && text.contains("position 40"),
            "{text}"
        );
        assert!(text.contains(&Scope::default().to_string()), "{text}");
    }

    #[cfg(debug_assertions)]
    #[test]
    fn one_flipped_bit_is_found() {
        let model = model();
        let mut slots = model.slots(2);
        let mut oracle = Oracle::new(1.0);
        let tokens = tokens(41);
        let kept = snapshot(&model, &mut slots, &tokens[..40]);
        let kept = crate::prefix::damage::flipped(model.backend(), &mut slots, kept);
        oracle.record(Scope::default(), &tokens, kept);
        let (done, _) = checked(&mut oracle, &model, &mut slots);
        assert!(matches!(done, CheckProgress::Different(_)), "{done:?}");
    }

    #[test]
    fn share_of_the_prefixes_is_recorded_and_two_wait_at_most() {
        let model = model();
        let mut slots = model.slots(2);
        for (share, expected) in [(0.0, 0), (0.02, 2), (0.5, 50), (1.0, 100), (7.0, 100)] {
            let mut oracle = Oracle::<CpuBackend>::new(share);
            // 0.02 is no sum of powers of two: one more prefix makes up for what is rounded.
            let due = (0..101).filter(|_| oracle.is_due()).count();
            assert!((expected..=expected + 1).contains(&due), "{share}: {due}");
        }
        let mut oracle = Oracle::new(1.0);
        for _ in 0..MOST_RECORDS {
            assert!(oracle.is_due());
            let kept = snapshot(&model, &mut slots, &tokens(5)[..4]);
            oracle.record(Scope::default(), &tokens(5), kept);
        }
        assert!(!oracle.is_due());
        assert_eq!(oracle.lengths().collect::<Vec<_>>(), [4, 4]);
        oracle.clear(model.backend(), &mut slots);
        assert!(oracle.is_due() && oracle.next_tokens().is_none());
    }

    #[test]
    fn distance_reports_what_is_not_a_number_and_what_is_beyond_the_tolerance() {
        let expected = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(distance(&expected, &expected, None), None);
        let near = [0.0, 1.0, 2.0, 3.001];
        assert!(distance(&near, &expected, None).is_some_and(|far| far < 1e-2));
        assert_eq!(distance(&near, &expected, Some(1e-2)), None);
        assert!(distance(&near, &expected, Some(1e-4)).is_some());
        for bad in [f32::NAN, f32::INFINITY] {
            let bad = [0.0, bad, 2.0, 3.0];
            assert_eq!(distance(&bad, &expected, Some(1.0)), Some(f64::INFINITY));
        }
        assert_eq!(distance(&expected[..3], &expected, Some(1.0)), Some(0.0));
    }
}
