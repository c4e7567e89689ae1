//! Which experts each row goes to, and the rows of each expert.

use crate::ExpertDims;
use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, LANES, Simd, dispatch, exp};
use crate::cpu::tasks::{rows_per_task, run_each};

/// The choices of a batch. A *place* is a row at one of its experts; places are counted expert by expert.
#[derive(Debug)]
pub(super) struct Routing {
    /// The experts that any row goes to, ascending.
    pub(super) experts: Vec<u32>,
    /// Where the places of each of these end.
    pub(super) ends: Vec<usize>,
    /// The row of each place; ascending for an expert.
    pub(super) rows: Vec<u32>,
    /// The places of each row, by expert, `[N, per_token]`.
    pub(super) places: Vec<u32>,
    /// What the results there are scaled with, `[N, per_token]`: they add up to 1.
    pub(super) weights: Vec<f32>,
}

impl Routing {
    /// Chooses by the router's logits, `[N, experts]`.
    pub(super) fn new(cpu: &Cpu, logits: &[f32], dims: &ExpertDims) -> Self {
        let (count, chosen_by_row) = (dims.experts, dims.per_token);
        let rows = logits.len() / count;
        let mut chosen = vec![0; rows * chosen_by_row];
        let mut weights = vec![0.0; rows * chosen_by_row];
        let run = rows_per_task(&cpu.pool, rows, count);
        let mut parts: Vec<_> = (logits.chunks(run * count))
            .zip(chosen.chunks_mut(run * chosen_by_row))
            .zip(weights.chunks_mut(run * chosen_by_row))
            .collect();
        run_each(&cpu.pool, &mut parts, |((logits, chosen), weights)| {
            let choices = chosen.chunks_mut(chosen_by_row);
            let choices = choices.zip(weights.chunks_mut(chosen_by_row));
            for (logits, (chosen, weights)) in logits.chunks(count).zip(choices) {
                choose(logits, chosen);
                for (weight, &expert) in weights.iter_mut().zip(&*chosen) {
                    *weight = logits[expert as usize];
                }
                dispatch(cpu.isa, Softmax { x: weights });
            }
        });
        Self::grouped(&chosen, weights, dims)
    }

    /// Groups the rows by expert.
    fn grouped(chosen: &[u32], weights: Vec<f32>, dims: &ExpertDims) -> Self {
        let mut next = vec![0; dims.experts];
        for &expert in chosen {
            next[expert as usize] += 1;
        }
        let (mut experts, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
        for (expert, next) in (0..).zip(&mut next) {
            let count = std::mem::replace(next, end);
            if count > 0 {
                end += count;
                experts.push(expert);
                ends.push(end);
            }
        }
        let mut rows = vec![0; chosen.len()];
        let mut places = Vec::with_capacity(chosen.len());
        for (row, chosen) in (0..).zip(chosen.chunks(dims.per_token)) {
            for &expert in chosen {
                let place = &mut next[expert as usize];
                rows[*place] = row;
                places.push(*place as u32);
                *place += 1;
            }
        }
        Self {
            experts,
            ends,
            rows,
            places,
            weights,
        }
    }

    /// Divides a buffer, `[places, width]`, into the parts of the experts.
    pub(super) fn divided<'a>(
        &self,
        mut buffer: &'a mut [f32],
        width: usize,
    ) -> Vec<&'a mut [f32]> {
        let mut start = 0;
        let part = |&end: &usize| {
            let len = (end - start) * width;
            start = end;
            buffer.split_off_mut(..len).unwrap_or_default()
        };
        self.ends.iter().map(part).collect()
    }
}

/// The experts with the largest logits, ascending; of equal ones the lower index. A NaN counts as the largest, so that
/// a broken router is seen in the result.
fn choose(logits: &[f32], chosen: &mut [u32]) {
    let key = |expert: u32| match logits[expert as usize] {
        x if x.is_nan() => f32::INFINITY,
        x => x,
    };
    let most = chosen.len();
    let (mut count, mut least) = (0, f32::NEG_INFINITY);
    for expert in 0..logits.len() as u32 {
        let own = key(expert);
        if count == most && own <= least {
            continue;
        }
        count = most.min(count + 1);
        let mut at = count - 1;
        // Only a larger one precedes those that are there.
        while at > 0 && own > key(chosen[at - 1]) {
            chosen[at] = chosen[at - 1];
            at -= 1;
        }
        chosen[at] = expert;
        least = key(chosen[count - 1]);
    }
    chosen.sort_unstable();
}

/// `e^x / Σ e^x` in place, summed in order. All NaN if a number is not finite.
struct Softmax<'a> {
    x: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if !self.x.iter().all(|x| x.is_finite()) {
            self.x.fill(f32::NAN);
            return;
        }
        let max = self.x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for part in self.x.chunks_mut(LANES) {
            let power = exp(s, s.sub(s.load_part(part, 0.0), s.splat(max)));
            s.store_part(power, part);
        }
        let sum = self.x.iter().fold(0.0, |sum, x| sum + x);
        self.x.iter_mut().for_each(|x| *x /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(logits: &[f32], count: usize) -> Vec<u32> {
        let mut chosen = vec![0; count];
        choose(logits, &mut chosen);
        chosen
    }

    #[test]
    fn largest_logits_choose_and_lower_index_wins_a_tie() {
        let logits = [1.0, 3.0, 2.0, 3.0, 2.0, -1.0];
        for (count, expected) in [
            (1, &[1][..]),
            (2, &[1, 3]),
            (3, &[1, 2, 3]),
            (4, &[1, 2, 3, 4]),
            (6, &[0, 1, 2, 3, 4, 5]),
        ] {
            assert_eq!(chosen(&logits, count), expected);
        }
        assert_eq!(chosen(&[0.0; 7], 3), [0, 1, 2]);
        assert_eq!(chosen(&[f32::NEG_INFINITY; 4], 2), [0, 1]);
        assert_eq!(chosen(&[0.0, -0.0, 0.0], 1), [0]);
    }

    #[test]
    fn broken_logit_is_chosen_and_breaks_the_weights() {
        let dims = ExpertDims::new(4, 2, 8, 0).unwrap();
        for broken in [f32::NAN, -f32::NAN, f32::INFINITY] {
            let logits = [0.0, 1.0, 2.0, broken, 3.0, 2.0, 1.0, 0.0];
            let routing = Routing::new(&Cpu::new(1), &logits, &dims);
            assert_eq!(routing.experts, [0, 1, 2, 3]);
            assert!(routing.weights[..2].iter().all(|w| w.is_nan()));
            assert!(routing.weights[2..].iter().all(|w| w.is_finite()));
        }
    }

    #[test]
    fn rows_are_grouped_by_expert() {
        let dims = ExpertDims::new(5, 2, 8, 0).unwrap();
        let logits = [
            [0.0, 0.0, 2.0, 0.0, 2.0], // 2 and 4
            [9.0, 0.0, 0.0, 0.0, 8.0], // 0 and 4
            [0.0, 0.0, 1.0, 0.0, 3.0], // 2 and 4
        ];
        let routing = Routing::new(&Cpu::new(2), logits.as_flattened(), &dims);
        assert_eq!(routing.experts, [0, 2, 4]);
        assert_eq!(routing.ends, [1, 3, 6]);
        assert_eq!(routing.rows, [1, 0, 2, 0, 1, 2]);
        assert_eq!(routing.places, [1, 3, 0, 4, 2, 5]);
        assert_eq!(routing.weights[..2], [0.5, 0.5]);
        assert!((routing.weights[2] + routing.weights[3] - 1.0).abs() < 1e-6);
        let mut buffer: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let parts = routing.divided(&mut buffer, 2);
        assert_eq!(parts[1], [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(parts[2].len(), 6);
    }
}
