//! The causal convolution ahead of a linear-attention layer's recurrence.

use super::{Cpu, Segment};
use crate::{ConvDims, naive};

/// A causal convolution of each channel with its own `K` weights, then SiLU.
///
/// `x, out: [N, C]`, `weight: [C, K]`. Each segment's state is its tail `[K - 1, C]`: the raw rows before its
/// first one, zeros at the start of a sequence, updated to the last ones.
///
/// # Panics
/// If the lengths do not agree.
pub fn short_conv(
    _cpu: &Cpu,
    dims: &ConvDims,
    x: &[f32],
    weight: &[f32],
    segments: &mut [Segment<'_, [f32]>],
    out: &mut [f32],
) {
    for segment in segments {
        let range = segment.rows.start * dims.channels..segment.rows.end * dims.channels;
        let y = naive::short_conv(dims, &x[range.clone()], weight, segment.state);
        out[range].copy_from_slice(&y);
    }
}
