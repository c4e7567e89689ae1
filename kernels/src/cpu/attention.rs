//! Gated softmax attention over each sequence's cache.
//!
//! A call first appends the batch's keys and values, then attends. Attention is shared out in tiles: a few rows of a
//! segment with all query heads of one key head, so that each key and value is loaded once for many queries. Over
//! a long context a tile's keys are shared out as well, in spans.
//!
//! **What fixes the bits.** Keys are taken in pages of 64 and spans of 256, both counted from position 0. Within a
//! span the softmax runs from page to page; a span's result is folded into what came before it, in ascending order.
//! So a row's result depends on its position and on nothing else, however the prompt was cut, whatever travels
//! beside it and however many threads took part.

mod append;
mod attend;
mod context;
mod kv_bytes;
mod kv_cache;
mod multiply;
mod plan;
mod values;

use super::tasks::run_each;
use super::{Cpu, Segment};
use crate::{AttentionDims, Rope};
use context::TaskContext;
pub use context::{AttentionInput, AttentionParams};
pub use kv_cache::{KvCache, KvType};

/// Appends every segment's keys and values to its cache and attends causally to what the cache then holds.
///
/// A segment's first row has the position that its cache's length was before the call. `out: [N, H, D]`. See
/// [`attention`](crate::naive::attention) for the formula.
///
/// # Panics
/// If the lengths do not agree, the segments are out of order, or a cache was made for another shape.
pub fn attention(
    cpu: &Cpu,
    dims: &AttentionDims,
    weights: AttentionParams<'_>,
    input: AttentionInput<'_>,
    segments: &mut [Segment<'_, KvCache>],
    out: &mut [f32],
) {
    let (q_row, kv_row) = (dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim);
    let batch = out.len() / q_row;
    assert_eq!(input.q_gate.len(), batch * 2 * q_row);
    assert!(input.k.len() == batch * kv_row && input.v.len() == batch * kv_row);
    assert!(weights.q_norm.len() == dims.head_dim && weights.k_norm.len() == dims.head_dim);
    assert_eq!(weights.rope.rotary_dim(), dims.rotary_dim);
    assert!(segments.iter().all(|segment| segment.state.fits(dims)));

    let angles = angles(cpu, weights.rope, batch, segments);
    let context = TaskContext {
        dims,
        weights,
        input,
        angles: &angles,
    };
    append::append(cpu, &context, segments);
    plan::attend(cpu, &context, segments, out);
}

/// Each row's cosines and sines, `[N, 2, rotary_dim / 2]`.
fn angles(cpu: &Cpu, rope: &Rope, batch: usize, segments: &[Segment<'_, KvCache>]) -> Vec<f32> {
    /// Rows to a task.
    const ROWS: usize = 32;
    let mut positions = vec![0; batch];
    for segment in segments {
        for (i, position) in positions[segment.rows.clone()].iter_mut().enumerate() {
            *position = segment.state.len() + i;
        }
    }
    let width = rope.rotary_dim();
    let mut angles = vec![0.0; batch * width];
    let mut tasks: Vec<_> = (positions.chunks(ROWS))
        .zip(angles.chunks_mut(ROWS * width))
        .collect();
    run_each(&cpu.pool, &mut tasks, |(positions, angles)| {
        for (position, angles) in positions.iter().zip(angles.chunks_mut(width)) {
            rope.angles(*position, angles);
        }
    });
    angles
}

#[cfg(test)]
mod tests;
