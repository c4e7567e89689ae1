//! The gate of the feed-forward block.

use super::Cpu;
use crate::naive;

/// `out = silu(gate) · up`, element by element.
///
/// # Panics
/// If the lengths do not agree.
pub fn swiglu(_cpu: &Cpu, gate: &[f32], up: &[f32], out: &mut [f32]) {
    out.copy_from_slice(&naive::swiglu(gate, up));
}
