//! What a sampler asks of a row of logits.

use super::Cpu;
use crate::naive;

/// The index of the largest logit, the first of equals; NaN loses to everything. 0 for an empty row.
pub fn argmax(_cpu: &Cpu, logits: &[f32]) -> usize {
    naive::argmax(logits)
}

/// `ln Σ e^x`; negative infinity for an empty row.
pub fn log_sum_exp(_cpu: &Cpu, logits: &[f32]) -> f32 {
    naive::log_sum_exp(logits)
}
