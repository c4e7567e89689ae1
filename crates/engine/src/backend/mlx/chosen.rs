//! Greedy choice on the device.

use mlx_rs::ops::indexing::{IndexOp, argmax_axis};
use mlx_rs::ops::select;
use mlx_rs::transforms::{async_eval, eval};
use mlx_rs::{Array, Dtype};
use sanctum_grammar::Mask;

use super::ops::{cast, dim, must, reshape};

/// Tokens that were chosen on the device.
#[derive(Debug)]
pub struct Chosen {
    /// The argmax of each row, `[outputs]`.
    tokens: Array,
    /// The sum of the logits of each row, `[outputs]`.
    sums: Array,
}

impl Chosen {
    /// Enqueues the choice of the most likely token of each row, among those that its mask allows.
    pub(super) fn argmax(logits: &Array, masks: &[Option<Mask>]) -> Self {
        let allowed = match masks.iter().any(Option::is_some) {
            true => masked(logits, masks),
            false => logits.clone(),
        };
        let tokens = must(argmax_axis(&allowed, -1, false));
        // Finite only if every one of them is.
        let sums = must(logits.sum_axis(-1, false));
        // A separate evaluation: waiting for it does not wait for the pass that follows.
        must(async_eval([&tokens, &sums]));
        Self { tokens, sums }
    }

    /// The tokens, on the device: `[outputs]`.
    pub(super) fn tokens(&self) -> &Array {
        &self.tokens
    }

    /// Waits for the tokens; none for a row whose logits are not finite.
    pub(super) fn read(&self) -> Vec<Option<u32>> {
        must(eval([&self.tokens, &self.sums]));
        let tokens = self.tokens.as_slice::<u32>();
        let sums = self.sums.as_slice::<f32>();
        let one = |(&token, sum): (&u32, &f32)| sum.is_finite().then_some(token);
        tokens.iter().zip(sums).map(one).collect()
    }
}

/// Logits `[rows, vocab]` with those of forbidden tokens at -inf. The bits of the masks are spread on the device: 31 KiB
/// a row cross the bus instead of a megabyte.
fn masked(logits: &Array, masks: &[Option<Mask>]) -> Array {
    const BITS: usize = u32::BITS as usize;
    let vocab = logits.shape()[1] as usize;
    let width = vocab.div_ceil(BITS);
    let mut words = Vec::with_capacity(masks.len() * width);
    for mask in masks {
        let end = words.len() + width;
        match mask {
            None => words.resize(end, u32::MAX),
            Some(mask) => {
                words.extend(mask.words().iter().take(width));
                words.resize(end, 0);
            }
        }
    }
    let words = Array::from_slice(&words, &[dim(masks.len()), dim(width), 1]);
    let powers: Vec<u32> = (0..u32::BITS).map(|bit| 1 << bit).collect();
    let powers = Array::from_slice(&powers, &[dim(BITS)]);
    let two = Array::from_slice(&[2u32], &[1]);
    let bits = must(must(words.floor_divide(&powers)).remainder(&two));
    let bits = reshape(&bits, &[dim(masks.len()), dim(width * BITS)]);
    let bits = cast(&bits.index((.., ..dim(vocab))), Dtype::Bool);
    must(select(&bits, logits, Array::from_f32(f32::NEG_INFINITY)))
}

#[cfg(test)]
mod tests {
    use mlx_rs::Array;
    use sanctum_grammar::Mask;
    use sanctum_kernels::cpu::Precision;

    use crate::backend::Backend;
    use crate::backend::mlx::{MlxBackend, MlxDevice};
    use crate::load::{HostModel, ModelSource};

    #[test]
    fn argmax_takes_the_first_of_equal_logits_and_none_if_not_finite() {
        let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
        let backend = MlxBackend::new(MlxDevice::best(), &host.weights, 1, Precision::Exact);
        let rows = [
            [0.0, 2.0, -1.0, 2.0],
            [-3.0, -4.0, -3.0, -9.0],
            [0.0, f32::NAN, 1.0, 2.0],
            [1.0, f32::INFINITY, f32::INFINITY, 0.0],
            [0.0, 1.0, 2.0, 3.0],
        ];
        let logits = Array::from_slice(rows.as_flattened(), &[5, 4]);
        let chosen = backend.argmax(&logits, &[]).unwrap();
        let tokens = backend.tokens(&chosen);
        assert_eq!(tokens, [Some(1), Some(0), None, None, Some(3)]);
    }

    #[test]
    fn forbidden_token_is_not_chosen() {
        let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
        let backend = MlxBackend::new(MlxDevice::best(), &host.weights, 1, Precision::Exact);
        // Wider than the mask, and not a multiple of its words.
        const VOCAB: usize = 70;
        let row = |best: usize, second: usize| {
            let mut row = [0.0f32; VOCAB];
            (row[best], row[second]) = (2.0, 1.0);
            row
        };
        let rows = [row(31, 32), row(31, 32), row(69, 1)];
        let logits = Array::from_slice(rows.as_flattened(), &[3, VOCAB as i32]);
        let masks = [
            Some(Mask::new(&[0x7FFF_FFFF, u32::MAX])),
            None,
            Some(Mask::new(&[2])),
        ];
        let chosen = backend.argmax(&logits, &masks).unwrap();
        assert_eq!(backend.tokens(&chosen), [Some(32), Some(31), Some(1)]);
    }
}
