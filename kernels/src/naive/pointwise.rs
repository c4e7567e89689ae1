//! The operations that look at one row at a time.

/// `1 / (1 + e^-x)`.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x · sigmoid(x)`.
pub fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

/// `ln(1 + e^x)`.
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `x / sqrt(mean(x²) + eps) · weight` over rows of `weight.len()` floats.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    x.chunks(weight.len())
        .flat_map(|row| normed(row, weight, eps))
        .map(|y| y as f32)
        .collect()
}

/// One row of [`rms_norm`], unrounded.
pub(super) fn normed(row: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
    let scale = (squares / row.len() as f64 + f64::from(eps)).sqrt().recip();
    row.iter()
        .zip(weight)
        .map(|(&x, &w)| f64::from(x) * scale * f64::from(w))
        .collect()
}

/// `silu(gate) · up`.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    gate.iter()
        .zip(up)
        .map(|(&g, &u)| (silu(g.into()) * f64::from(u)) as f32)
        .collect()
}

/// `rms_norm(y) · weight · silu(z)` over rows of `weight.len()` floats.
pub fn gated_norm(y: &[f32], z: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    y.chunks(weight.len())
        .flat_map(|row| normed(row, weight, eps))
        .zip(z)
        .map(|(y, &z)| (y * silu(z.into())) as f32)
        .collect()
}
