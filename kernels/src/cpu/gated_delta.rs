//! The gated delta rule: a linear-attention layer's recurrence.

use super::{Cpu, Segment};
use crate::{DeltaDims, naive};

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
pub struct DeltaWeights<'a> {
    /// `[Hv]`
    pub a_log: &'a [f32],
    /// `[Hv]`
    pub dt_bias: &'a [f32],
}

/// Runs every segment through the recurrence; each segment's state is `[Hv, Dv, Dk]`, zeros at the start of a
/// sequence. `out: [N, Hv, Dv]`. See [`naive::gated_delta`] for the formula.
///
/// # Panics
/// If the lengths do not agree.
pub fn gated_delta(
    _cpu: &Cpu,
    dims: &DeltaDims,
    weights: DeltaWeights<'_>,
    input: DeltaInput<'_>,
    segments: &mut [Segment<'_, [f32]>],
    out: &mut [f32],
) {
    let width = dims.value_heads * dims.value_dim;
    for segment in segments {
        let rows = segment.rows.clone();
        let part = |x: &'_ [f32], width: usize| x[rows.start * width..rows.end * width].to_vec();
        let mut state: Vec<f64> = segment.state.iter().map(|&s| s.into()).collect();
        let y = naive::gated_delta(
            dims,
            &part(input.qkv, dims.qkv_len()),
            [
                &part(input.a, dims.value_heads),
                &part(input.b, dims.value_heads),
            ],
            [weights.a_log, weights.dt_bias],
            &mut state,
        );
        for (new, old) in state.iter().zip(segment.state.iter_mut()) {
            *old = *new as f32;
        }
        out[rows.start * width..rows.end * width].copy_from_slice(&y);
    }
}
