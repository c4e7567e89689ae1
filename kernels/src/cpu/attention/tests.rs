//! Attention against its formula, and the demand that only a row's own past decides its bits.

use super::*;
use crate::KvMode;
use crate::naive;
use crate::testing::{assert_close, noise, same_everywhere};
use proptest::prelude::*;

/// A layer and the rows of one sequence.
struct AttentionLayer {
    dims: AttentionDims,
    rope: Rope,
    q_norm: Vec<f32>,
    k_norm: Vec<f32>,
    q_gate: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl AttentionLayer {
    fn new(dims: AttentionDims, rows: usize, seed: u64) -> Self {
        let kv_row = dims.kv_heads * dims.head_dim;
        let sharp = |x: Vec<f32>| x.iter().map(|x| 1.5 + x).collect();
        Self {
            dims,
            rope: Rope::new(dims.rotary_dim, 10_000.0),
            q_norm: sharp(noise(seed, dims.head_dim)),
            k_norm: sharp(noise(seed ^ 1, dims.head_dim)),
            q_gate: noise(seed ^ 2, rows * dims.heads * 2 * dims.head_dim),
            k: noise(seed ^ 3, rows * kv_row),
            v: noise(seed ^ 4, rows * kv_row),
        }
    }

    fn row(&self) -> usize {
        self.dims.heads * self.dims.head_dim
    }

    /// Runs rows from `first` on, shared out over caches as `lens` says.
    fn run(&self, cpu: &Cpu, first: usize, caches: Vec<(usize, &mut KvCache)>) -> Vec<f32> {
        let rows: usize = caches.iter().map(|(len, _)| len).sum();
        let kv_row = self.dims.kv_heads * self.dims.head_dim;
        let mut out = vec![f32::NAN; rows * self.row()];
        let mut start = 0;
        let mut segments = Vec::new();
        for (len, cache) in caches {
            segments.push(Segment::new(start..start + len, cache));
            start += len;
        }
        attention(
            cpu,
            &self.dims,
            AttentionParams {
                q_norm: &self.q_norm,
                k_norm: &self.k_norm,
                eps: 1e-6,
                rope: &self.rope,
            },
            AttentionInput {
                q_gate: &self.q_gate[first * 2 * self.row()..][..rows * 2 * self.row()],
                k: &self.k[first * kv_row..][..rows * kv_row],
                v: &self.v[first * kv_row..][..rows * kv_row],
            },
            &mut segments,
            &mut out,
        );
        out
    }

    /// Rows up to `rows`, remembered without a look back.
    fn remember(&self, cpu: &Cpu, rows: usize, cache: &mut KvCache) {
        let mut segments = [Segment::new(0..rows, cache)];
        let angles = angles(cpu, &self.rope, rows, &segments);
        let context = TaskContext {
            dims: &self.dims,
            weights: AttentionParams {
                q_norm: &self.q_norm,
                k_norm: &self.k_norm,
                eps: 1e-6,
                rope: &self.rope,
            },
            input: AttentionInput {
                q_gate: &self.q_gate,
                k: &self.k,
                v: &self.v,
            },
            angles: &angles,
        };
        append::append(cpu, &context, &mut segments);
    }

    fn naive(&self) -> Vec<f32> {
        naive::attention(
            &self.dims,
            &self.rope,
            [&self.q_norm, &self.k_norm],
            1e-6,
            [&self.q_gate, &self.k, &self.v],
            &mut naive::KvHistory::default(),
        )
    }
}

fn shapes() -> impl Strategy<Value = AttentionDims> {
    (1..3_usize, 1..7_usize, 1..6_usize, 1..9_usize).prop_map(|(kv_heads, group, d, rotary)| {
        AttentionDims::new(kv_heads * group, kv_heads, d * 16, (rotary * 2).min(d * 16)).unwrap()
    })
}

/// Heads that can be packed, and how.
fn packed_shapes() -> impl Strategy<Value = (AttentionDims, KvMode)> {
    let shape = (1..3_usize, 1..7_usize, 1..4_usize, 1..9_usize);
    let mode = prop_oneof![Just(KvMode::V8), Just(KvMode::V4)];
    (shape, mode).prop_map(|((kv_heads, group, d, rotary), mode)| {
        let dims = AttentionDims::new(kv_heads * group, kv_heads, d * 64, rotary * 2);
        (dims.unwrap(), mode)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn attention_matches_its_formula(dims in shapes(), rows in 1..200_usize, seed: u64) {
        let layer = AttentionLayer::new(dims, rows, seed);
        let expected = layer.naive();
        for (kv_type, tolerance) in [(KvType::F32, 3e-6), (KvType::F16, 2e-3)] {
            let got = same_everywhere(|cpu| {
                layer.run(cpu, 0, vec![(rows, &mut KvCache::new(&dims, kv_type, KvMode::Plain))])
            });
            assert_close(&got, &expected, tolerance);
        }
    }

    #[test]
    fn packed_values_are_what_they_stand_for((dims, mode) in packed_shapes(), rows in 1..200_usize, seed: u64) {
        let layer = AttentionLayer::new(dims, rows, seed);
        let stand_for = AttentionLayer { v: naive::packed(&layer.v, mode), ..AttentionLayer::new(dims, rows, seed) };
        let expected = stand_for.run(
            &Cpu::new(1), 0, vec![(rows, &mut KvCache::new(&dims, KvType::F32, KvMode::Plain))],
        );
        let got = same_everywhere(|cpu| {
            layer.run(cpu, 0, vec![(rows, &mut KvCache::new(&dims, KvType::F32, mode))])
        });
        prop_assert!(got == expected);
    }

    #[test]
    fn any_split_beside_any_neighbour_gives_the_same_bits(
        (dims, mode) in prop_oneof![shapes().prop_map(|dims| (dims, KvMode::Plain)), packed_shapes()],
        lens in prop::collection::vec(prop_oneof![1..4_usize, 1..300_usize], 1..5),
        threads in 1..4_usize,
        seed: u64,
    ) {
        let cpu = Cpu::new(threads);
        let rows: usize = lens.iter().sum();
        let layer = AttentionLayer::new(dims, rows, seed);
        let empty = || KvCache::new(&dims, KvType::F16, mode);
        let whole = layer.run(&Cpu::new(1), 0, vec![(rows, &mut empty())]);
        let mut cache = empty();
        let mut out = Vec::new();
        for len in lens {
            let first = cache.len();
            // The rest of the rows travels along as another sequence, with another type of cache.
            let mut other = KvCache::new(&dims, KvType::F32, KvMode::Plain);
            let mut both = vec![(len, &mut cache)];
            if first + len < rows {
                both.push((rows - first - len, &mut other));
            }
            let y = layer.run(&cpu, first, both);
            out.extend_from_slice(&y[..len * layer.row()]);
        }
        prop_assert!(out == whole);
    }
}

#[test]
fn long_contexts_keep_their_precision_and_their_bits() {
    let dims = AttentionDims::new(4, 2, 32, 16).unwrap();
    let rows = 2_500;
    let layer = AttentionLayer::new(dims, rows, 11);
    let whole = same_everywhere(|cpu| {
        layer.run(
            cpu,
            0,
            vec![(rows, &mut KvCache::new(&dims, KvType::F32, KvMode::Plain))],
        )
    });
    assert_close(&whole, &layer.naive(), 3e-6);
    // The last rows as a decode sees them, with the keys shared out over threads.
    for threads in [1, 2, 8] {
        let mut cache = KvCache::new(&dims, KvType::F32, KvMode::Plain);
        layer.run(&Cpu::new(2), 0, vec![(rows - 3, &mut cache)]);
        for row in rows - 3..rows {
            let y = layer.run(&Cpu::new(threads), row, vec![(1, &mut cache)]);
            assert_eq!(y, whole[row * layer.row()..][..layer.row()]);
        }
    }
}

#[test]
fn a_snapshot_and_a_truncated_cache_go_on_as_if_nothing_had_followed() {
    let dims = AttentionDims::new(4, 1, 32, 32).unwrap();
    let layer = AttentionLayer::new(dims, 200, 5);
    let cpu = Cpu::new(2);
    let mut cache = KvCache::new(&dims, KvType::F16, KvMode::Plain);
    layer.run(&cpu, 0, vec![(100, &mut cache)]);
    let mut snapshot = cache.clone();
    let expected = layer.run(&cpu, 100, vec![(100, &mut cache)]);
    assert_eq!(layer.run(&cpu, 100, vec![(100, &mut snapshot)]), expected);
    cache.truncate(100);
    assert_eq!(layer.run(&cpu, 100, vec![(100, &mut cache)]), expected);
}

#[test]
fn rows_of_no_segment_are_left_alone() {
    let dims = AttentionDims::new(1, 1, 16, 16).unwrap();
    let layer = AttentionLayer::new(dims, 3, 5);
    let mut cache = KvCache::new(&dims, KvType::F32, KvMode::Plain);
    let mut out = vec![7.0; 3 * 16];
    let weights = AttentionParams {
        q_norm: &layer.q_norm,
        k_norm: &layer.k_norm,
        eps: 1e-6,
        rope: &layer.rope,
    };
    let input = AttentionInput {
        q_gate: &layer.q_gate,
        k: &layer.k,
        v: &layer.v,
    };
    let mut segments = [Segment::new(1..2, &mut cache)];
    attention(&Cpu::new(1), &dims, weights, input, &mut segments, &mut out);
    assert!(out[..16].iter().chain(&out[32..]).all(|&x| x == 7.0));
    assert!(out[16..32].iter().all(|&x| x != 7.0));
}

/// The largest error of one row's output, as a share of the largest magnitude there, in f32, f16, v8 and v4.
fn errors(positions: usize, likeness: f32) -> [f32; 4] {
    // Hardly any rotation, so that a key is as like the query as it was made.
    let dims = AttentionDims::new(4, 2, 64, 2).unwrap();
    let mut layer = AttentionLayer::new(dims, positions, 21);
    let (group, d) = (dims.group(), dims.head_dim);
    // In every thousandth position each head's key looks like the last row's query.
    let kv_row = dims.kv_heads * d;
    let last = (positions - 1) * 2 * layer.row();
    for position in (0..positions).skip(positions / 3).step_by(1_000) {
        for head in 0..dims.kv_heads {
            let query = &layer.q_gate[last + head * group * 2 * d..][..d];
            let key = &mut layer.k[position * kv_row + head * d..][..d];
            for (k, q) in key.iter_mut().zip(query) {
                *k += likeness * q;
            }
        }
    }
    let before = positions - 1;
    let mut history = naive::KvHistory::default();
    let [k, v] = [&layer.k, &layer.v].map(|rows| rows.split_at(before * kv_row));
    history.append(&dims, &layer.rope, (&layer.k_norm, 1e-6), [k.0, v.0]);
    let last = [&layer.q_gate[last..], k.1, v.1];
    let norms = [&layer.q_norm[..], &layer.k_norm[..]];
    let expected = naive::attention(&dims, &layer.rope, norms, 1e-6, last, &mut history);
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let cpu = Cpu::new(2);
    [
        (KvType::F32, KvMode::Plain),
        (KvType::F16, KvMode::Plain),
        (KvType::F16, KvMode::V8),
        (KvType::F16, KvMode::V4),
    ]
    .map(|(kv_type, mode)| {
        let mut cache = KvCache::new(&dims, kv_type, mode);
        layer.remember(&cpu, before, &mut cache);
        let got = layer.run(&cpu, before, vec![(1, &mut cache)]);
        let errors = got.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        errors.fold(0.0, f32::max) / largest
    })
}

/// A softmax that picks a few of many keys shows a value's own error; one that averages hides it.
#[test]
fn what_packing_costs_beside_f64_up_to_32k_positions() {
    for positions in [1_000, 8_000, 32_000] {
        for (name, likeness) in [("flat", 0.0), ("peaked", 0.5), ("one-hot", 4.0)] {
            let [f32, f16, v8, v4] = errors(positions, likeness);
            println!(
                "{positions:6} {name:8} f32 {f32:.1e}  f16 {f16:.1e}  v8 {v8:.1e}  v4 {v4:.1e}"
            );
            let what = format!("{positions} positions, {name}");
            assert!(f32 <= 1e-5, "{what}: f32 {f32}");
            assert!(f16 <= 1.5e-3, "{what}: f16 {f16}");
            assert!(v8 <= 6e-3, "{what}: v8 {v8}");
            assert!(v4 <= 9e-2, "{what}: v4 {v4}");
        }
    }
}
