//! Attention against its formula, and the demand that only a row's own past decides its bits.

use super::*;
use crate::naive;
use crate::testing::{assert_close, noise, same_everywhere};
use proptest::prelude::*;

/// A layer and the rows of one sequence.
struct Layer {
    dims: AttentionDims,
    rope: Rope,
    q_norm: Vec<f32>,
    k_norm: Vec<f32>,
    q_gate: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Layer {
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
            AttentionWeights {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn attention_matches_its_formula(dims in shapes(), rows in 1..200_usize, seed: u64) {
        let layer = Layer::new(dims, rows, seed);
        let expected = layer.naive();
        for (kv_type, tolerance) in [(KvType::F32, 3e-6), (KvType::F16, 2e-3)] {
            let got = same_everywhere(|cpu| {
                layer.run(cpu, 0, vec![(rows, &mut KvCache::new(&dims, kv_type))])
            });
            assert_close(&got, &expected, tolerance);
        }
    }

    #[test]
    fn any_split_beside_any_neighbour_gives_the_same_bits(
        dims in shapes(),
        lens in prop::collection::vec(prop_oneof![1..4_usize, 1..300_usize], 1..5),
        threads in 1..4_usize,
        seed: u64,
    ) {
        let cpu = Cpu::new(threads);
        let rows: usize = lens.iter().sum();
        let layer = Layer::new(dims, rows, seed);
        let whole = layer.run(&Cpu::new(1), 0, vec![(rows, &mut KvCache::new(&dims, KvType::F16))]);
        let mut cache = KvCache::new(&dims, KvType::F16);
        let mut out = Vec::new();
        for len in lens {
            let first = cache.len();
            // The rest of the rows travels along as another sequence, with another type of cache.
            let mut other = KvCache::new(&dims, KvType::F32);
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
    let layer = Layer::new(dims, rows, 11);
    let whole = same_everywhere(|cpu| {
        layer.run(cpu, 0, vec![(rows, &mut KvCache::new(&dims, KvType::F32))])
    });
    assert_close(&whole, &layer.naive(), 3e-6);
    // The last rows as a decode sees them, with the keys shared out over threads.
    for threads in [1, 2, 8] {
        let mut cache = KvCache::new(&dims, KvType::F32);
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
    let layer = Layer::new(dims, 200, 5);
    let cpu = Cpu::new(2);
    let mut cache = KvCache::new(&dims, KvType::F16);
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
    let layer = Layer::new(dims, 3, 5);
    let mut cache = KvCache::new(&dims, KvType::F32);
    let mut out = vec![7.0; 3 * 16];
    let weights = AttentionWeights {
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
