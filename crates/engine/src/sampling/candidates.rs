//! Which tokens may be drawn, and the draw.
//!
//! A vocabulary has a quarter of a million tokens, of which a few dozen are plausible. So the filters gather tokens
//! within a margin of the most likely one first, and extend the margin only if that cannot have been enough. Nothing is sorted:
//! the weight at which a filter cuts is found by bisection, each step of which is one quick pass.

use super::Sampling;
use super::softmax::{BLOCK, exp, sum_block, sum_exp};

/// Tokens whose logit is within this of the largest are gathered first, then those within the next.
const MARGINS: [f32; 4] = [4.0, 8.0, 16.0, f32::INFINITY];

/// The choice of one token; its buffers serve every token of a sequence.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    /// The tokens that may be drawn, in order.
    ids: Vec<u32>,
    /// For each, its probability as a share of the most likely token's.
    weights: Vec<f32>,
}

impl Candidates {
    /// Draws a token at a temperature above 0. `max` is the largest logit, `uniform` a random number in `[0, 1)`.
    pub(super) fn draw(
        &mut self,
        sampling: &Sampling,
        logits: &[f32],
        max: f32,
        uniform: f64,
    ) -> u32 {
        let filters = sampling.top_p < 1.0 || sampling.top_k > 0 || sampling.min_p > 0.0;
        if filters {
            self.filter(sampling, logits, max);
            for (weight, &id) in self.weights.iter_mut().zip(&self.ids) {
                *weight = logits[id as usize];
            }
        } else {
            self.weights.clear();
            self.weights.extend_from_slice(logits);
        }
        // Apart from the lookups, so that it vectorises.
        for weight in &mut self.weights {
            *weight = exp((*weight - max) / sampling.temperature);
        }
        let drawn = categorical(&self.weights, uniform);
        if filters {
            self.ids.get(drawn).copied().unwrap_or(0)
        } else {
            drawn as u32
        }
    }

    /// Leaves what top-p, top-k and min-p keep, with the weights at temperature 1.
    fn filter(&mut self, sampling: &Sampling, logits: &[f32], max: f32) {
        let nucleus =
            (sampling.top_p < 1.0).then(|| f64::from(sampling.top_p) * sum_exp(logits, max));
        self.gather(sampling, logits, max, nucleus);
        if let Some(nucleus) = nucleus {
            let least = largest(|least| mass(&self.weights, least) >= nucleus);
            self.retain(|weight| weight >= least);
        }
        if sampling.min_p > 0.0 {
            self.retain(|weight| weight >= sampling.min_p);
        }
        if sampling.top_k > 0 && sampling.top_k < self.ids.len() {
            let least = largest(|least| count(&self.weights, |w| w >= least) >= sampling.top_k);
            // Of equals, those with the lowest ids.
            let mut equals = sampling.top_k - count(&self.weights, |w| w > least);
            self.retain(|weight| {
                let equal = weight == least && equals > 0;
                equals -= usize::from(equal);
                equal || weight > least
            });
        }
    }

    /// Gathers the most likely tokens, enough of them for one of the filters.
    fn gather(&mut self, sampling: &Sampling, logits: &[f32], max: f32, nucleus: Option<f64>) {
        let mut ids = [0; BLOCK];
        let mut weights = [0.0; BLOCK];
        for margin in MARGINS {
            let least = max - margin;
            self.ids.clear();
            self.weights.clear();
            for (block, start) in logits.chunks(BLOCK).zip((0u32..).step_by(BLOCK)) {
                // Most blocks hold nothing of interest, and are seen through in vectors.
                if !block.iter().fold(false, |any, &x| any | (x >= least)) {
                    continue;
                }
                // Written always and counted if wanted: a branch here would be mispredicted half of the time.
                let mut wanted = 0;
                for (&logit, id) in block.iter().zip(start..) {
                    ids[wanted] = id;
                    weights[wanted] = logit;
                    wanted += usize::from(logit >= least);
                }
                self.ids.extend_from_slice(&ids[..wanted]);
                self.weights.extend_from_slice(&weights[..wanted]);
            }
            for weight in &mut self.weights {
                *weight = exp(*weight - max);
            }
            let enough = match nucleus {
                Some(nucleus) => mass(&self.weights, 0.0) >= nucleus,
                None => {
                    (sampling.top_k > 0 && self.ids.len() >= sampling.top_k)
                        // With room for the rounding of the exponential.
                        || sampling.min_p > 1.01 * exp(-margin)
                }
            };
            if enough {
                return;
            }
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(f32) -> bool) {
        let mut kept = 0;
        for at in 0..self.ids.len() {
            let weight = self.weights[at];
            self.ids[kept] = self.ids[at];
            self.weights[kept] = weight;
            kept += usize::from(keep(weight));
        }
        self.ids.truncate(kept);
        self.weights.truncate(kept);
    }
}

/// The largest weight, from 0 to 1, that is small enough; 0 if none is.
///
/// Non-negative numbers are in the order of their bits, so this takes thirty steps.
fn largest(small_enough: impl Fn(f32) -> bool) -> f32 {
    let (mut below, mut above) = (0, 1f32.to_bits() + 1);
    while above - below > 1 {
        let middle = below.midpoint(above);
        if small_enough(f32::from_bits(middle)) {
            below = middle;
        } else {
            above = middle;
        }
    }
    f32::from_bits(below)
}

/// The sum of the weights that are at least this.
fn mass(weights: &[f32], least: f32) -> f64 {
    let counted = |weight: f32| if weight >= least { weight } else { 0.0 };
    weights
        .chunks(BLOCK)
        .map(|block| sum_block(block, counted))
        .sum()
}

fn count(weights: &[f32], wanted: impl Fn(f32) -> bool) -> usize {
    let in_block = |block: &[f32]| -> u32 { block.iter().map(|&w| u32::from(wanted(w))).sum() };
    weights
        .chunks(BLOCK)
        .map(|block| in_block(block) as usize)
        .sum()
}

/// Draws an index with a probability proportional to its weight. At least one weight is positive.
fn categorical(weights: &[f32], uniform: f64) -> usize {
    let total: f64 = mass(weights, 0.0);
    let mut left = uniform * total;
    let mut fallback = 0;
    for (block, start) in weights.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        let sum = sum_block(block, |weight| weight);
        if left >= sum {
            left -= sum;
            continue;
        }
        for (&weight, at) in block.iter().zip(start..) {
            if weight > 0.0 {
                left -= f64::from(weight);
                if left < 0.0 {
                    return at;
                }
                fallback = at;
            }
        }
        // The block's sum, rounded, promised a little more than its parts: the last of them it is.
        return fallback;
    }
    weights.iter().rposition(|&w| w > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sampling::softmax;

    /// The tokens that the filters leave, by the definition: sort everything.
    fn naive(sampling: &Sampling, logits: &[f32]) -> Vec<u32> {
        let max = softmax::max(logits).unwrap();
        let weights = logits.iter().map(|&logit| exp(logit - max));
        let mut sorted: Vec<(u32, f32)> = (0..).zip(weights).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total: f64 = sorted.iter().map(|&(_, weight)| f64::from(weight)).sum();
        let nucleus = f64::from(sampling.top_p) * total;
        let mut least = 0.0;
        let mut above = 0.0;
        for &(_, weight) in sorted.iter().filter(|_| sampling.top_p < 1.0) {
            if above < nucleus {
                least = weight;
            }
            above += f64::from(weight);
        }
        sorted.retain(|&(_, weight)| weight >= least && weight >= sampling.min_p);
        if sampling.top_k > 0 {
            sorted.truncate(sampling.top_k);
        }
        let mut ids: Vec<u32> = sorted.into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    fn kept(sampling: &Sampling, logits: &[f32]) -> Vec<u32> {
        let mut candidates = Candidates::default();
        candidates.filter(sampling, logits, softmax::max(logits).unwrap());
        candidates.ids
    }

    #[test]
    fn top_p_keeps_at_least_one_token_and_its_equals() {
        let sampling = Sampling {
            top_p: 1e-6,
            ..Sampling::default()
        };
        assert_eq!(kept(&sampling, &[0.0, 3.0, 1.0]), [1]);
        assert_eq!(kept(&sampling, &[3.0, 3.0, 1.0]), [0, 1]);
    }

    #[test]
    fn top_k_keeps_exactly_that_many() {
        let sampling = Sampling {
            top_k: 2,
            ..Sampling::default()
        };
        assert_eq!(kept(&sampling, &[1.0, 1.0, 3.0, 1.0]), [0, 2]);
        assert_eq!(kept(&sampling, &[1.0]), [0]);
    }

    #[test]
    fn a_draw_never_falls_on_an_impossible_token() {
        let weights = [0.0, 1.0, 0.0, 3.0, 0.0];
        assert_eq!(categorical(&weights, 0.0), 1);
        assert_eq!(categorical(&weights, 0.2499), 1);
        assert_eq!(categorical(&weights, 0.25), 3);
        assert_eq!(categorical(&weights, 1.0 - f64::EPSILON), 3);
        assert_eq!(categorical(&weights, 1.0), 3);
    }

    proptest! {
        #[test]
        fn the_filters_keep_what_their_definitions_keep(
            // Fractions of a few bits, so that there are equals.
            logits in prop::collection::vec(-160i32..160, 1..2500),
            spread in prop_oneof![Just(8.0f32), Just(64.0)],
            top_p in prop_oneof![Just(1.0f32), 0.01f32..0.99],
            top_k in prop_oneof![Just(0usize), 1usize..60],
            min_p in prop_oneof![Just(0.0f32), 0.001f32..1.0],
        ) {
            let logits: Vec<f32> = logits.into_iter().map(|logit| logit as f32 / spread).collect();
            let sampling = |top_p| Sampling { top_p, top_k, min_p, ..Sampling::default() };
            let kept = kept(&sampling(top_p), &logits);
            // Sums are rounded, so the nucleus may end a token sooner or later where a sum all but equals top_p.
            let fewer = naive(&sampling(if top_p < 1.0 { top_p * (1.0 - 1e-6) } else { 1.0 }), &logits);
            let more = naive(&sampling((top_p * (1.0 + 1e-6)).min(1.0)), &logits);
            prop_assert!(kept == fewer || kept == more, "{:?} is neither {:?} nor {:?}", kept, fewer, more);
        }
    }
}
