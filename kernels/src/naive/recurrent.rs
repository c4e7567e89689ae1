//! The two operations of a linear-attention layer that carry a state from row to row.

use super::pointwise::{sigmoid, silu, softplus};
use crate::{ConvDims, DeltaDims};

/// A causal convolution of each channel with its own `K` weights, then SiLU.
///
/// `x: [T, C]`, `weight: [C, K]`, `tail: [K - 1, C]`: the rows before the first one, updated to the last ones.
pub fn short_conv(dims: &ConvDims, x: &[f32], weight: &[f32], tail: &mut [f32]) -> Vec<f32> {
    let (channels, kernel) = (dims.channels, dims.kernel);
    let rows = [&*tail, x].concat();
    let mut out = Vec::with_capacity(x.len());
    for t in 0..x.len() / channels {
        for c in 0..channels {
            let sum: f64 = (0..kernel)
                .map(|j| {
                    f64::from(rows[(t + j) * channels + c]) * f64::from(weight[c * kernel + j])
                })
                .sum();
            out.push(silu(sum) as f32);
        }
    }
    tail.copy_from_slice(&rows[rows.len() - tail.len()..]);
    out
}

/// The gated delta rule (Yang et al., arXiv 2412.06464) as Qwen3-Next parametrises it.
///
/// `qkv: [T, 2·Hk·Dk + Hv·Dv]`, `a, b: [T, Hv]`, `a_log, dt_bias: [Hv]`, `state: [Hv, Dv, Dk]`; returns `[T, Hv, Dv]`.
/// Per value head, with q and k L2-normalised and q scaled by `Dk^-1/2`:
///
/// ```text
/// state ×= exp(-exp(a_log) · softplus(a + dt_bias))
/// delta  = (v - state·k) · sigmoid(b)
/// state += delta ⊗ k
/// y      = state·q
/// ```
pub fn gated_delta(
    dims: &DeltaDims,
    qkv: &[f32],
    [a, b]: [&[f32]; 2],
    [a_log, dt_bias]: [&[f32]; 2],
    state: &mut [f64],
) -> Vec<f32> {
    let (dk, dv, hv) = (dims.key_dim, dims.value_dim, dims.value_heads);
    let keys = dims.key_heads * dk;
    let mut out = Vec::new();
    for (t, row) in qkv.chunks(dims.qkv_len()).enumerate() {
        for h in 0..hv {
            let head = h / dims.group() * dk;
            let q = unit(&row[head..head + dk], (dk as f64).sqrt().recip());
            let k = unit(&row[keys + head..keys + head + dk], 1.0);
            let v = &row[2 * keys + h * dv..][..dv];
            let step = softplus(f64::from(a[t * hv + h]) + f64::from(dt_bias[h]));
            let decay = (-f64::from(a_log[h]).exp() * step).exp();
            let beta = sigmoid(b[t * hv + h].into());
            for (state, &v) in state[h * dv * dk..].chunks_mut(dk).zip(v) {
                state.iter_mut().for_each(|s| *s *= decay);
                let delta = (f64::from(v) - dot(state, &k)) * beta;
                state.iter_mut().zip(&k).for_each(|(s, k)| *s += delta * k);
                out.push(dot(state, &q) as f32);
            }
        }
    }
    out
}

fn unit(x: &[f32], scale: f64) -> Vec<f64> {
    let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
    let scale = scale / (squares + 1e-6).sqrt();
    x.iter().map(|&x| f64::from(x) * scale).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}
