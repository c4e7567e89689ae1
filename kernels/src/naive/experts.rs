//! The feed-forward part of a mixture of experts.

use super::pointwise::{sigmoid, silu};
use crate::ExpertDims;

/// Dense matrices of one expert: gate and up `[intermediate, hidden]`, down `[hidden, intermediate]`.
pub type DenseExpert<'a> = [&'a [f32]; 3];

/// `Σ w_e · expert_e(x)` over the `per_token` experts of each row, and `sigmoid(gate · x) · shared(x)`.
///
/// `x: [N, hidden]`, `router: [experts, hidden]`, `shared`: its gate `[hidden]` and its matrices. With `p` the softmax
/// of `router · x`, the experts of the largest `p` are chosen, of equal ones the lower index, and
/// `w_e = p_e / Σ p` over the chosen.
pub fn experts(
    dims: &ExpertDims,
    router: &[f32],
    experts: &[DenseExpert<'_>],
    shared: Option<(&[f32], DenseExpert<'_>)>,
    x: &[f32],
) -> Vec<f32> {
    let hidden = router.len() / dims.experts;
    let mut out = Vec::with_capacity(x.len());
    for x in x.chunks(hidden) {
        let logits: Vec<f64> = router.chunks(hidden).map(|row| dot(row, x)).collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = logits.iter().map(|l| (l - max).exp()).collect();
        let total: f64 = powers.iter().sum();
        let p: Vec<f64> = powers.iter().map(|power| power / total).collect();
        let mut order: Vec<usize> = (0..dims.experts).collect();
        // A stable sort: equal ones stay in order.
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
        let chosen = &order[..dims.per_token];
        let sum: f64 = chosen.iter().map(|&e| p[e]).sum();
        let mut y = vec![0.0; hidden];
        let mut add = |scale: f64, matrices: &DenseExpert<'_>| {
            for (y, result) in y.iter_mut().zip(expert(matrices, x)) {
                *y += scale * result;
            }
        };
        for &e in chosen {
            add(p[e] / sum, &experts[e]);
        }
        if let Some((gate, matrices)) = &shared {
            add(sigmoid(dot(gate, x)), matrices);
        }
        out.extend(y.iter().map(|&y| y as f32));
    }
    out
}

/// `down(silu(gate x) · up x)`.
fn expert([gate, up, down]: &DenseExpert<'_>, x: &[f32]) -> Vec<f64> {
    let rows = gate.chunks(x.len()).zip(up.chunks(x.len()));
    let inner: Vec<f64> = rows
        .map(|(gate, up)| silu(dot(gate, x)) * dot(up, x))
        .collect();
    let rows = down.chunks(inner.len());
    let product = |row: &[f32]| row.iter().zip(&inner).map(|(&w, x)| f64::from(w) * x).sum();
    rows.map(product).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
    products.sum()
}
