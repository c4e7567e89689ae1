//! Gated softmax attention over each sequence's cache.

use super::{Cpu, KvCache, Segment};
use crate::{AttentionDims, Rope, naive};

/// A batch's rows as the projections leave them.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInput<'a> {
    /// `[N, H, 2·D]`: `[q, gate]` in each head.
    pub q_gate: &'a [f32],
    /// `[N, Hkv, D]`
    pub k: &'a [f32],
    /// `[N, Hkv, D]`
    pub v: &'a [f32],
}

/// A layer's own parameters.
#[derive(Clone, Copy, Debug)]
pub struct AttentionWeights<'a> {
    /// `[D]`, the RMS norm of each query head.
    pub q_norm: &'a [f32],
    /// `[D]`, the RMS norm of each key head.
    pub k_norm: &'a [f32],
    /// What both norms add to the mean of squares.
    pub eps: f32,
    /// The rotation of queries and keys.
    pub rope: &'a Rope,
}

/// Appends every segment's keys and values to its cache and attends causally to what the cache then holds.
///
/// A segment's first row has the position that its cache's length was before the call. `out: [N, H, D]`. See [`naive::attention`] for the formula.
///
/// # Panics
/// If the lengths do not agree, or a cache was made for another shape.
pub fn attention(
    _cpu: &Cpu,
    dims: &AttentionDims,
    weights: AttentionWeights<'_>,
    input: AttentionInput<'_>,
    segments: &mut [Segment<'_, KvCache>],
    out: &mut [f32],
) {
    let (q_row, kv_row) = (dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim);
    for segment in segments {
        let rows = segment.rows.clone();
        let (keys, values) = segment.state.rows();
        let mut history = naive::KvHistory {
            keys: keys.iter().map(|&k| k.into()).collect(),
            values: values.iter().map(|&v| v.into()).collect(),
        };
        let part = |x: &'_ [f32], width: usize| x[rows.start * width..rows.end * width].to_vec();
        let y = naive::attention(
            dims,
            weights.rope,
            [weights.q_norm, weights.k_norm],
            weights.eps,
            [
                &part(input.q_gate, 2 * q_row),
                &part(input.k, kv_row),
                &part(input.v, kv_row),
            ],
            &mut history,
        );
        *keys = history.keys.iter().map(|&k| k as f32).collect();
        *values = history.values.iter().map(|&v| v as f32).collect();
        out[rows.start * q_row..rows.end * q_row].copy_from_slice(&y);
    }
}
