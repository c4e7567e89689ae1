//! The gated delta rule: a linear-attention layer's recurrence.
//!
//! The rows of a head's state (one a value dimension) do not know of each other, so a task takes a few rows of one
//! head through all of a segment's steps while they stay in the nearest cache. A step walks a row twice: once for
//! its products with k and with q, taken before the update (`y = state'·q` with `state' = g·state + delta ⊗ k` is
//! `g·(state·q) + delta·(k·q)`), and once to update it.

use std::ops::Range;

use super::segment::tiles;
use super::simd::{Kernel, LANES, Simd, dispatch, exp, exp_scalar, prefetch, sigmoid, softplus};
use super::tasks::{Tile, run_each};
use super::{Cpu, Segment};
use crate::DeltaDims;

/// State rows that go through a step together.
const ROWS: usize = 8;
/// Numbers in a cache line.
const CACHE_LINE: usize = 16;
/// Steps whose coefficients are computed ahead: few enough for the stack, enough to amortise reloading a block of
/// state rows.
const STEPS: usize = 64;

/// A batch's rows as the projections and the convolution leave them.
#[derive(Clone, Copy, Debug)]
pub struct DeltaInput<'a> {
    /// `[N, 2·Hk·Dk + Hv·Dv]`: q, k and v of each row, laid end to end.
    pub qkv: &'a [f32],
    /// `[N, Hv]`: what the decay is made of.
    pub a: &'a [f32],
    /// `[N, Hv]`: what the write strength is made of.
    pub b: &'a [f32],
}

/// A layer's own parameters.
#[derive(Clone, Copy, Debug)]
pub struct DeltaParams<'a> {
    /// `[Hv]`
    pub a_log: &'a [f32],
    /// `[Hv]`
    pub dt_bias: &'a [f32],
}

/// Runs every segment through the recurrence; each segment's state is `[Hv, Dv, Dk]`, zeros at the start of a
/// sequence. `out: [N, Hv, Dv]`. See [`gated_delta`](crate::naive::gated_delta) for the formula.
///
/// # Panics
/// If the lengths do not agree, or the segments are out of order.
pub fn gated_delta(
    cpu: &Cpu,
    dims: &DeltaDims,
    weights: DeltaParams<'_>,
    input: DeltaInput<'_>,
    segments: &mut [Segment<'_, [f32]>],
    out: &mut [f32],
) {
    let heads = dims.value_heads;
    let batch = out.len() / (heads * dims.value_dim);
    assert_eq!(input.qkv.len(), batch * dims.qkv_len());
    assert!(input.a.len() == batch * heads && input.b.len() == batch * heads);
    assert!(weights.a_log.len() == heads && weights.dt_bias.len() == heads);

    let slice = rows_per_slice(cpu.pool.threads(), segments.len() * heads, dims.value_dim);
    let tiles = tiles(Tile::new(out, heads * dims.value_dim), segments);
    let mut tasks = Vec::with_capacity(segments.len() * heads * dims.value_dim.div_ceil(slice));
    for (segment, mut tile) in segments.iter_mut().zip(tiles) {
        assert_eq!(segment.state.len(), dims.state_len());
        let states = segment.state.chunks_mut(dims.value_dim * dims.key_dim);
        for (head, state) in states.enumerate() {
            for (index, state) in state.chunks_mut(slice * dims.key_dim).enumerate() {
                let (out, rest) = tile.split_columns(state.len() / dims.key_dim);
                tile = rest;
                tasks.push(Slice {
                    rows: segment.rows.clone(),
                    head,
                    first: index * slice,
                    state,
                    out,
                });
            }
        }
    }
    run_each(&cpu.pool, &mut tasks, |slice| {
        dispatch(
            cpu.isa,
            Recurrence {
                head: Head {
                    dims,
                    weights,
                    input,
                    head: slice.head,
                },
                slice,
            },
        );
    });
}

/// How many state rows a task takes: a whole head's where that makes tasks enough.
fn rows_per_slice(threads: usize, heads: usize, value_dim: usize) -> usize {
    let slices = (threads * 4).div_ceil(heads.max(1)).min(value_dim / ROWS);
    value_dim.div_ceil(slices.max(1)).next_multiple_of(ROWS)
}

/// Some state rows of one head in one segment.
struct Slice<'a> {
    rows: Range<usize>,
    head: usize,
    /// The head's value dimension that the first state row belongs to.
    first: usize,
    /// `[.., Dk]`
    state: &'a mut [f32],
    out: Tile<'a>,
}

/// What a step multiplies by, apart from k, q and v themselves.
#[derive(Clone, Copy, Default)]
struct DeltaStep {
    decay: f32,
    beta: f32,
    /// `1 / |k|`
    k_scale: f32,
    /// `Dk^-1/2 / |q|`
    q_scale: f32,
    /// The product of the normalised k and the scaled q.
    kq: f32,
}

/// What one head reads.
#[derive(Clone, Copy)]
struct Head<'a> {
    dims: &'a DeltaDims,
    weights: DeltaParams<'a>,
    input: DeltaInput<'a>,
    head: usize,
}

struct Recurrence<'a, 'b> {
    head: Head<'a>,
    slice: &'a mut Slice<'b>,
}

impl Kernel for Recurrence<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { head, slice } = self;
        let mut steps = [DeltaStep::default(); STEPS];
        for start in slice.rows.clone().step_by(STEPS) {
            let steps = &mut steps[..STEPS.min(slice.rows.end - start)];
            head.coefficients(s, start, steps);
            let mut rest = &mut slice.state[..];
            for index in 0..rest.len() / (ROWS * head.dims.key_dim) {
                let (state, after) = rest.split_at_mut(ROWS * head.dims.key_dim);
                rest = after;
                // With few steps to a block the state's way through memory is what takes the time; a block is about a
                // page, and hardware does not look ahead from one page into the next.
                if steps.len() <= ROWS {
                    let next = &rest[..rest.len().min(state.len())];
                    next.iter().step_by(CACHE_LINE).for_each(prefetch);
                }
                for (i, step) in steps.iter().enumerate() {
                    let (q, k, v) = head.qkv(start + i);
                    let v = &v[slice.first + index * ROWS..][..ROWS];
                    let out = slice.out.row(start + i - slice.rows.start);
                    let out = &mut out[index * ROWS..][..ROWS];
                    if S::WIDE {
                        advance::<S, ROWS>(s, state, q, k, v, step, out);
                    } else {
                        advance::<S, 2>(s, state, q, k, v, step, out);
                    }
                }
            }
        }
    }
}

impl<'a> Head<'a> {
    /// Its q, k and v in a row.
    #[inline(always)]
    fn qkv(self, row: usize) -> (&'a [[f32; LANES]], &'a [[f32; LANES]], &'a [f32]) {
        let dims = self.dims;
        let row = &self.input.qkv[row * dims.qkv_len()..][..dims.qkv_len()];
        let (q, rest) = row.split_at(dims.key_heads * dims.key_dim);
        let (k, v) = rest.split_at(dims.key_heads * dims.key_dim);
        let key_head = self.head / dims.group() * dims.key_dim;
        (
            q[key_head..][..dims.key_dim].as_chunks().0,
            k[key_head..][..dims.key_dim].as_chunks().0,
            &v[self.head * dims.value_dim..][..dims.value_dim],
        )
    }

    /// Fills in the steps of the rows from `start` on.
    #[inline(always)]
    fn coefficients<S: Simd>(self, s: S, start: usize, steps: &mut [DeltaStep]) {
        let head = self.head;
        let rate = exp_scalar(s, self.weights.a_log[head]);
        let root = (self.dims.key_dim as f32).sqrt();
        for (group, steps) in steps.chunks_mut(LANES).enumerate() {
            let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
            for (lane, step) in steps.iter_mut().enumerate() {
                let row = start + group * LANES + lane;
                a[lane] = self.input.a[row * self.dims.value_heads + head];
                b[lane] = self.input.b[row * self.dims.value_heads + head];
                let (q, k, _) = self.qkv(row);
                let [qq, kk, kq] = products(s, q, k);
                step.k_scale = 1.0 / (kk + 1e-6).sqrt();
                step.q_scale = 1.0 / ((qq + 1e-6).sqrt() * root);
                step.kq = kq * step.k_scale * step.q_scale;
            }
            let a = s.add(s.load(&a), s.splat(self.weights.dt_bias[head]));
            let decay = exp(s, s.mul(s.splat(-rate), softplus(s, a)));
            let beta = sigmoid(s, s.load(&b));
            let (mut decays, mut betas) = ([0.0; LANES], [0.0; LANES]);
            s.store(decay, &mut decays);
            s.store(beta, &mut betas);
            for ((step, decay), beta) in steps.iter_mut().zip(decays).zip(betas) {
                step.decay = decay;
                step.beta = beta;
            }
        }
    }
}

/// `[q·q, k·k, k·q]`.
#[inline(always)]
fn products<S: Simd>(s: S, q: &[[f32; LANES]], k: &[[f32; LANES]]) -> [f32; 3] {
    let mut sums = [s.splat(0.0); 3];
    for (q, k) in q.iter().zip(k) {
        let (q, k) = (s.load(q), s.load(k));
        sums[0] = s.mul_add(q, q, sums[0]);
        sums[1] = s.mul_add(k, k, sums[1]);
        sums[2] = s.mul_add(k, q, sums[2]);
    }
    [s.sum(sums[0]), s.sum(sums[1]), s.sum(sums[2])]
}

/// One step of [`ROWS`] state rows, `R` of which share each load of k and q.
#[inline(always)]
fn advance<S: Simd, const R: usize>(
    s: S,
    state: &mut [f32],
    q: &[[f32; LANES]],
    k: &[[f32; LANES]],
    v: &[f32],
    step: &DeltaStep,
    out: &mut [f32],
) {
    let len = k.len();
    let state = &mut state.as_chunks_mut::<LANES>().0[..ROWS * len];
    let q = &q[..len];
    let mut with_k = [s.splat(0.0); ROWS];
    let mut with_q = [s.splat(0.0); ROWS];
    for first in (0..ROWS).step_by(R) {
        let mut rows = [&[][..]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &state[(first + r) * len..][..len];
        }
        let mut sums = [[s.splat(0.0); 2]; R];
        for j in 0..len {
            let (k, q) = (s.load(&k[j]), s.load(&q[j]));
            for r in 0..R {
                let x = s.load(&rows[r][j]);
                sums[r] = [s.mul_add(x, k, sums[r][0]), s.mul_add(x, q, sums[r][1])];
            }
        }
        for r in 0..R {
            [with_k[first + r], with_q[first + r]] = sums[r];
        }
    }
    let (with_k, with_q) = (s.sums(with_k), s.sums(with_q));
    let (k_decay, q_decay) = (step.decay * step.k_scale, step.decay * step.q_scale);
    let mut writes = [0.0; ROWS];
    for r in 0..ROWS {
        let delta = (v[r] - k_decay * with_k[r]) * step.beta;
        out[r] = q_decay * with_q[r] + step.kq * delta;
        writes[r] = delta * step.k_scale;
    }
    let decay = s.splat(step.decay);
    for (state, writes) in state
        .chunks_exact_mut(R * len)
        .zip(writes.as_chunks::<R>().0)
    {
        let mut rest = state;
        let rows: [&mut [_]; R] = std::array::from_fn(|_| {
            let (row, others) = std::mem::take(&mut rest).split_at_mut(len);
            rest = others;
            row
        });
        let mut write = [s.splat(0.0); R];
        for r in 0..R {
            write[r] = s.splat(writes[r]);
        }
        for j in 0..len {
            let k = s.load(&k[j]);
            for r in 0..R {
                let x = s.mul(s.load(&rows[r][j]), decay);
                s.store(s.mul_add(k, write[r], x), &mut rows[r][j]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use crate::testing::{assert_close, noise, same_everywhere};
    use proptest::prelude::*;

    struct DeltaLayer {
        dims: DeltaDims,
        a_log: Vec<f32>,
        dt_bias: Vec<f32>,
        qkv: Vec<f32>,
        a: Vec<f32>,
        b: Vec<f32>,
    }

    impl DeltaLayer {
        fn new(dims: DeltaDims, rows: usize, seed: u64) -> Self {
            let heads = dims.value_heads;
            Self {
                dims,
                a_log: noise(seed, heads),
                dt_bias: noise(seed ^ 1, heads),
                qkv: noise(seed ^ 2, rows * dims.qkv_len()),
                a: noise(seed ^ 3, rows * heads),
                b: noise(seed ^ 4, rows * heads),
            }
        }

        fn run(&self, cpu: &Cpu, rows: Range<usize>, states: Vec<(usize, &mut [f32])>) -> Vec<f32> {
            let part =
                |x: &'_ [f32], width: usize| x[rows.start * width..rows.end * width].to_vec();
            let heads = self.dims.value_heads;
            let mut out = vec![f32::NAN; rows.len() * heads * self.dims.value_dim];
            let mut start = 0;
            let mut segments = Vec::new();
            for (len, state) in states {
                segments.push(Segment::new(start..start + len, state));
                start += len;
            }
            gated_delta(
                cpu,
                &self.dims,
                DeltaParams {
                    a_log: &self.a_log,
                    dt_bias: &self.dt_bias,
                },
                DeltaInput {
                    qkv: &part(&self.qkv, self.dims.qkv_len()),
                    a: &part(&self.a, heads),
                    b: &part(&self.b, heads),
                },
                &mut segments,
                &mut out,
            );
            out
        }
    }

    fn shapes() -> impl Strategy<Value = DeltaDims> {
        (1..4_usize, 1..4_usize, 1..9_usize, 1..5_usize).prop_map(|(hk, group, dk, dv)| {
            DeltaDims::new(hk, hk * group, dk * 16, dv * 16).unwrap()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_recurrence_matches_its_formula(dims in shapes(), rows in 1..150_usize, seed: u64) {
            let layer = DeltaLayer::new(dims, rows, seed);
            let start = noise(seed ^ 9, dims.state_len());
            let got = same_everywhere(|cpu| {
                let mut state = start.clone();
                let out = layer.run(cpu, 0..rows, vec![(rows, &mut state)]);
                [out, state].concat()
            });
            let mut state: Vec<f64> = start.iter().map(|&s| s.into()).collect();
            let out = naive::gated_delta(
                &dims,
                &layer.qkv,
                [&layer.a, &layer.b],
                [&layer.a_log, &layer.dt_bias],
                &mut state,
            );
            let state: Vec<f32> = state.iter().map(|&s| s as f32).collect();
            assert_close(&got[..out.len()], &out, 2e-5);
            assert_close(&got[out.len()..], &state, 2e-5);
        }

        #[test]
        fn any_split_beside_any_neighbour_gives_the_same_bits(
            dims in shapes(),
            lens in prop::collection::vec(1..90_usize, 1..4),
            seed: u64,
        ) {
            let cpu = Cpu::new(2);
            let rows = lens.iter().sum();
            let layer = DeltaLayer::new(dims, rows, seed);
            let mut whole_state = vec![0.0; dims.state_len()];
            let whole = layer.run(&cpu, 0..rows, vec![(rows, &mut whole_state)]);
            let mut state = vec![0.0; dims.state_len()];
            let mut out = Vec::new();
            let mut start = 0;
            for len in lens {
                // The rest of the rows travels along as another sequence.
                let mut other = vec![0.5; dims.state_len()];
                let mut both = vec![(len, &mut state[..])];
                if start + len < rows {
                    both.push((rows - start - len, &mut other));
                }
                let y = layer.run(&cpu, start..rows, both);
                out.extend_from_slice(&y[..len * dims.value_heads * dims.value_dim]);
                start += len;
            }
            prop_assert!(out == whole && state == whole_state);
        }
    }
}
