//! What a call is given, and what each of its tasks reads.

use crate::{AttentionDims, Rope};

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
pub struct AttentionParams<'a> {
    /// `[D]`, the RMS norm of each query head.
    pub q_norm: &'a [f32],
    /// `[D]`, the RMS norm of each key head.
    pub k_norm: &'a [f32],
    /// What both norms add to the mean of squares.
    pub eps: f32,
    /// The rotation of queries and keys.
    pub rope: &'a Rope,
}

/// Everything that a task reads beside its cache.
#[derive(Clone, Copy)]
pub(super) struct TaskContext<'a> {
    pub(super) dims: &'a AttentionDims,
    pub(super) weights: AttentionParams<'a>,
    pub(super) input: AttentionInput<'a>,
    /// `[N, 2, rotary_dim / 2]`: each row's cosines and sines.
    pub(super) angles: &'a [f32],
}

impl<'a> TaskContext<'a> {
    /// A row's cosines and sines.
    #[inline(always)]
    pub(super) fn angles(&self, row: usize) -> &'a [f32] {
        let width = self.dims.rotary_dim;
        &self.angles[row * width..][..width]
    }
}

/// Turns the first `angles.len()` dimensions of a head.
#[inline(always)]
pub(super) fn rotate(head: &mut [f32], angles: &[f32]) {
    let half = angles.len() / 2;
    let (cos, sin) = angles.split_at(half);
    let (x, rest) = head.split_at_mut(half);
    for (((x, y), cos), sin) in x.iter_mut().zip(&mut rest[..half]).zip(cos).zip(sin) {
        (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
    }
}
