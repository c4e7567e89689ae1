//! The causal convolution ahead of a linear-attention layer's recurrence.

use super::segment::tiles;
use super::simd::{Kernel, LANES, Simd, dispatch, silu};
use super::tasks::{Tile, rows_per_task, run_each, with_scratch};
use super::{Cpu, Segment};
use crate::ConvDims;

/// A causal convolution of each channel with its own `K` weights, then SiLU.
///
/// `x, out: [N, C]`, `weight: [C, K]`. Each segment's state is its tail `[K - 1, C]`: the raw rows before its
/// first one, zeros at the start of a sequence, updated to the last ones.
///
/// # Panics
/// If the lengths do not agree, or the segments are out of order.
pub fn short_conv(
    cpu: &Cpu,
    dims: &ConvDims,
    x: &[f32],
    weight: &[f32],
    segments: &mut [Segment<'_, [f32]>],
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len());
    assert_eq!(weight.len(), dims.channels * dims.kernel);
    let tiles = tiles(Tile::new(out, dims.channels), segments);
    let mut tasks = Vec::new();
    for (segment, mut out) in segments.iter_mut().zip(tiles) {
        assert_eq!(segment.state.len(), dims.tail_len());
        let mut tail = Tile::new(segment.state, dims.channels);
        let x = &x[segment.rows.start * dims.channels..segment.rows.end * dims.channels];
        let step = channels_per_task(cpu, dims, segment.rows.len());
        for first in (0..dims.channels).step_by(step) {
            let count = step.min(dims.channels - first);
            let (out_part, out_rest) = out.split_columns(count);
            let (tail_part, tail_rest) = tail.split_columns(count);
            (out, tail) = (out_rest, tail_rest);
            tasks.push(Channels {
                dims,
                first,
                count,
                x,
                weight: &weight[first * dims.kernel..][..count * dims.kernel],
                tail: tail_part,
                out: out_part,
            });
        }
    }
    run_each(&cpu.pool, &mut tasks, |task| {
        let lines = dims.kernel * task.count.div_ceil(LANES);
        with_scratch(lines * LANES, |weight| {
            let weight = weight.as_chunks_mut().0;
            dispatch(cpu.isa, Convolution { task, weight });
        });
    });
}

/// How many channels a task takes: enough to be worth one, and with many rows few enough that `K` rows of them stay
/// in the nearest cache.
fn channels_per_task(cpu: &Cpu, dims: &ConvDims, rows: usize) -> usize {
    let lines = rows_per_task(&cpu.pool, dims.channels.div_ceil(LANES), 2 * rows * LANES);
    LANES
        * if rows > dims.kernel {
            lines.min(32)
        } else {
            lines
        }
}

/// Some channels of a segment.
struct Channels<'a> {
    dims: &'a ConvDims,
    first: usize,
    count: usize,
    /// The segment's rows `[T, C]`.
    x: &'a [f32],
    /// `[count, K]`
    weight: &'a [f32],
    /// `[K - 1, count]`
    tail: Tile<'a>,
    /// `[T, count]`
    out: Tile<'a>,
}

struct Convolution<'a, 'b> {
    task: &'a mut Channels<'b>,
    /// Room for the weights with the channels side by side: `[count / 16][K]` lines.
    weight: &'a mut [[f32; LANES]],
}

impl Kernel for Convolution<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Channels {
            dims,
            first,
            count,
            x,
            weight,
            tail,
            out,
        } = self.task;
        let (first, count, before) = (*first, *count, dims.kernel - 1);
        side_by_side(weight, dims.kernel, self.weight);
        for t in 0..out.rows() {
            let mut rows = [&[][..]; ConvDims::MAX_KERNEL];
            for (j, row) in rows[..dims.kernel].iter_mut().enumerate() {
                *row = match (t + j).checked_sub(before) {
                    Some(t) => &x[t * dims.channels + first..][..count],
                    None => tail.get(t + j),
                };
            }
            convolve(s, &rows[..dims.kernel], self.weight, out.row(t));
        }
        for i in 0..before {
            // Row `len + i` of the old tail and the segment laid end to end.
            match (out.rows() + i).checked_sub(before) {
                Some(t) => tail
                    .row(i)
                    .copy_from_slice(&x[t * dims.channels + first..][..count]),
                None => tail.copy_row(out.rows() + i, i),
            }
        }
    }
}

/// Turns `[C, K]` into lines `[C / 16][K]` of sixteen channels each.
#[inline(always)]
fn side_by_side(weight: &[f32], kernel: usize, lines: &mut [[f32; LANES]]) {
    if kernel == 4 {
        // The usual kernel, spelled out so that the compiler turns it into shuffles.
        for (taps, lines) in weight
            .as_chunks::<4>()
            .0
            .chunks(LANES)
            .zip(lines.as_chunks_mut::<4>().0)
        {
            if let Ok(taps) = <&[[f32; 4]; LANES]>::try_from(taps) {
                for (j, line) in lines.iter_mut().enumerate() {
                    *line = std::array::from_fn(|c| taps[c][j]);
                }
                continue;
            }
            for (c, taps) in taps.iter().enumerate() {
                for (line, tap) in lines.iter_mut().zip(taps) {
                    line[c] = *tap;
                }
            }
        }
        return;
    }
    for (c, taps) in weight.chunks_exact(kernel).enumerate() {
        let lines = &mut lines[c / LANES * kernel..][..kernel];
        for (line, tap) in lines.iter_mut().zip(taps) {
            line[c % LANES] = *tap;
        }
    }
}

/// One output row: SiLU of the sum over `rows`, oldest first, of each times its taps.
#[inline(always)]
fn convolve<S: Simd>(s: S, rows: &[&[f32]], weight: &[[f32; LANES]], out: &mut [f32]) {
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for (i, out) in out.iter_mut().enumerate() {
        let mut sum = s.splat(0.0);
        for (row, tap) in rows.iter().zip(&weight[i * rows.len()..]) {
            sum = s.mul_add(s.load(&row.as_chunks().0[i]), s.load(tap), sum);
        }
        s.store(silu(s, sum), out);
    }
    if !out_tail.is_empty() {
        let mut sum = s.splat(0.0);
        for (row, tap) in rows.iter().zip(&weight[out.len() * rows.len()..]) {
            sum = s.mul_add(
                s.load_part(row.as_chunks::<LANES>().1, 0.0),
                s.load(tap),
                sum,
            );
        }
        s.store_part(silu(s, sum), out_tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{assert_close, noise, same_everywhere};
    use proptest::prelude::*;

    fn run(
        cpu: &Cpu,
        dims: &ConvDims,
        x: &[f32],
        weight: &[f32],
        tails: Vec<(usize, &mut [f32])>,
    ) -> Vec<f32> {
        let mut out = vec![f32::NAN; x.len()];
        let mut start = 0;
        let mut segments = Vec::new();
        for (len, tail) in tails {
            segments.push(Segment::new(start..start + len, tail));
            start += len;
        }
        short_conv(cpu, dims, x, weight, &mut segments, &mut out);
        out
    }

    fn shapes() -> impl Strategy<Value = ConvDims> {
        (1..1500_usize, 1..9_usize)
            .prop_map(|(c, k)| ConvDims::new(c, if c % 2 == 0 { 4 } else { k }).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_convolution_matches_its_formula(dims in shapes(), rows in 1..30_usize, seed: u64) {
            let x = noise(seed, rows * dims.channels);
            let weight = noise(seed ^ 1, dims.channels * dims.kernel);
            let before = noise(seed ^ 2, dims.tail_len());
            let got = same_everywhere(|cpu| {
                let mut tail = before.clone();
                let out = run(cpu, &dims, &x, &weight, vec![(rows, &mut tail)]);
                [out, tail].concat()
            });
            let mut tail = before.clone();
            let out = naive::short_conv(&dims, &x, &weight, &mut tail);
            assert_close(&got[..x.len()], &out, 1e-6);
            prop_assert_eq!(&got[x.len()..], tail);
        }

        #[test]
        fn any_split_beside_any_neighbour_gives_the_same_bits(
            dims in shapes(),
            lens in prop::collection::vec(1..9_usize, 1..5),
            seed: u64,
        ) {
            let cpu = Cpu::new(2);
            let rows: usize = lens.iter().sum();
            let x = noise(seed, rows * dims.channels);
            let weight = noise(seed ^ 1, dims.channels * dims.kernel);
            let mut whole_tail = vec![0.0; dims.tail_len()];
            let whole = run(&cpu, &dims, &x, &weight, vec![(rows, &mut whole_tail)]);
            let mut tail = vec![0.0; dims.tail_len()];
            let mut out = Vec::new();
            let mut start = 0;
            for len in lens {
                let mut other = noise(7, dims.tail_len());
                let mut both = vec![(len, &mut tail[..])];
                if start + len < rows {
                    both.push((rows - start - len, &mut other));
                }
                let y = run(&cpu, &dims, &x[start * dims.channels..], &weight, both);
                out.extend_from_slice(&y[..len * dims.channels]);
                start += len;
            }
            prop_assert!(out == whole && tail == whole_tail);
        }
    }
}
