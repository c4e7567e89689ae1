//! Root-mean-square norms and the residual sum that precedes them.

use super::Cpu;
use crate::naive;

/// `out = x / sqrt(mean(x²) + eps) · weight`, each row of `x: [N, C]` for itself; `weight: [C]`.
///
/// # Panics
/// If the lengths do not agree.
pub fn rms_norm(_cpu: &Cpu, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(&naive::rms_norm(x, weight, eps));
}

/// `x += y`.
///
/// # Panics
/// If the lengths do not agree.
pub fn add(_cpu: &Cpu, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len());
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// `x += y`, then `out = rms_norm(x)`: the step between two layers in one pass over memory. Bit-equal to [`add`] followed by [`rms_norm`].
///
/// # Panics
/// If the lengths do not agree.
pub fn add_rms_norm(
    cpu: &Cpu,
    x: &mut [f32],
    y: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    add(cpu, x, y);
    rms_norm(cpu, x, weight, eps, out);
}

/// `out = rms_norm(y) · weight · silu(z)`, each head of `y, z: [N, Hv, Dv]` for itself; `weight: [Dv]`.
///
/// # Panics
/// If the lengths do not agree.
pub fn gated_norm(_cpu: &Cpu, y: &[f32], z: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(&naive::gated_norm(y, z, weight, eps));
}
