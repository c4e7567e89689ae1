//! Gated softmax attention over everything a sequence has seen.

use super::pointwise::{normed, sigmoid};
use crate::{AttentionDims, Rope};

/// The keys (normed and rotated) and values of a sequence so far, `[T, Hkv, D]` each.
#[derive(Clone, Debug, Default)]
pub struct KvHistory {
    keys: Vec<f64>,
    values: Vec<f64>,
}

impl KvHistory {
    /// Remembers rows `k, v: [T, Hkv, D]`: keys normed and rotated, each by the position that it gets.
    pub fn append(
        &mut self,
        dims: &AttentionDims,
        rope: &Rope,
        (k_norm, eps): (&[f32], f32),
        [k, v]: [&[f32]; 2],
    ) {
        let kv_row = dims.kv_heads * dims.head_dim;
        for (k, v) in k.chunks(kv_row).zip(v.chunks(kv_row)) {
            let position = self.keys.len() / kv_row;
            for head in k.chunks(dims.head_dim) {
                self.keys
                    .extend(rotated(normed(head, k_norm, eps), rope, position));
            }
            self.values.extend(v.iter().map(|&v| f64::from(v)));
        }
    }
}

/// Causal attention of `T` rows that follow what `history` holds; returns `[T, H, D]`.
///
/// `q_gate: [T, H, 2·D]` with `[q, gate]` in each head, `k, v: [T, Hkv, D]`; `q_norm, k_norm: [D]`.
/// q and k are RMS-normed per head and rotated, scores are scaled by `D^-1/2`, and the result is multiplied by
/// `sigmoid(gate)`.
pub fn attention(
    dims: &AttentionDims,
    rope: &Rope,
    [q_norm, k_norm]: [&[f32]; 2],
    eps: f32,
    [q_gate, k, v]: [&[f32]; 3],
    history: &mut KvHistory,
) -> Vec<f32> {
    let (d, kv_row) = (dims.head_dim, dims.kv_heads * dims.head_dim);
    let mut out = Vec::new();
    for (t, heads) in q_gate.chunks(dims.heads * 2 * d).enumerate() {
        let position = history.keys.len() / kv_row;
        let row = [k, v].map(|rows| &rows[t * kv_row..][..kv_row]);
        history.append(dims, rope, (k_norm, eps), row);
        for (h, head) in heads.chunks(2 * d).enumerate() {
            let (q, gate) = head.split_at(d);
            let q = rotated(normed(q, q_norm, eps), rope, position);
            let kv = h / dims.group() * d..(h / dims.group() + 1) * d;
            let scores: Vec<f64> = history
                .keys
                .chunks(kv_row)
                .map(|row| {
                    q.iter()
                        .zip(&row[kv.clone()])
                        .map(|(q, k)| q * k)
                        .sum::<f64>()
                })
                .map(|score| score * (d as f64).sqrt().recip())
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            out.extend(gate.iter().zip(kv).map(|(&gate, i)| {
                let values = history.values.chunks(kv_row).map(|row| row[i]);
                let sum: f64 = weights.iter().zip(values).map(|(w, v)| w * v).sum();
                (sum / total * sigmoid(gate.into())) as f32
            }));
        }
    }
    out
}

fn rotated(mut x: Vec<f64>, rope: &Rope, position: usize) -> Vec<f64> {
    let half = rope.rotary_dim() / 2;
    let mut angles = vec![0.0; 2 * half];
    rope.angles(position, &mut angles);
    for i in 0..half {
        let (cos, sin) = (f64::from(angles[i]), f64::from(angles[half + i]));
        (x[i], x[i + half]) = (
            x[i] * cos - x[i + half] * sin,
            x[i + half] * cos + x[i] * sin,
        );
    }
    x
}
