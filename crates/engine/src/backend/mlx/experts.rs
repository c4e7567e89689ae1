//! A mixture of experts: from kernels of our own where there are some, otherwise from MLX's operations.
//!
//! The rows of a product are gathered by expert. Few rows are multiplied as they come; many are sorted by expert first, so
//! that an expert's weights are read once for all of its rows.

use mlx_rs::Array;
use mlx_rs::ops::indexing::{IndexOp, take_along_axis};
use mlx_rs::ops::{argsort, argsort_axis, sigmoid, softmax_axis};

use super::fused::Fused;
use super::matrix::{MlxExperts, MlxMatrix};
use super::ops::{cast, dim, f32, must, range, reshape, rows, stacked};
use crate::backend::Backend;
use crate::load::weights::{ExpertsWeights, GatedWeights};

/// From so many gathered rows on they are sorted, as in mlx-lm.
const SORTED: usize = 64;

/// MLX 0.32.2 leaves rows unwritten on the GPUs of M5 if more than this are gathered and sorted (ml-explore/mlx#3856).
const MOST_SORTED: usize = 32768;

/// There sorted products are wrong too unless the width is a multiple of this (ml-explore/mlx#3887).
const SORTED_STEP: usize = 64;

/// The mixture of `x`, `[n, hidden]`, in f32.
pub(super) fn mixture(
    backend: &impl Backend<Tensor = Array, Matrix = MlxMatrix>,
    fused: Option<&Fused>,
    weights: &ExpertsWeights<MlxMatrix, MlxExperts>,
    x: &Array,
) -> Array {
    let per_token = weights.dims.per_token;
    let [logits] = backend.project(x, [&weights.router]);
    let [chosen, shares] = fused
        .and_then(|fused| fused.route(&logits, per_token))
        .unwrap_or_else(|| choose(&f32(&logits), per_token));
    let shared = weights.shared.as_ref().map(|shared| {
        let [gate] = backend.project(x, [&shared.gate]);
        let block = &shared.block;
        let inner = backend.project_gated(x, [&block.gate, &block.up]);
        let [result] = backend.project(&inner, [&block.down]);
        [gate, result]
    });
    let n = x.shape()[0] as usize;
    let step = (MOST_SORTED / per_token).max(1);
    let pieces = (0..n).step_by(step).map(|start| {
        let end = n.min(start + step);
        let part = |array: &Array| range(array, start, end);
        let results = routed(backend, fused, weights, &part(x), &part(&chosen));
        let shared = shared.as_ref().map(|parts| parts.each_ref().map(part));
        mixed(fused, &results, &part(&shares), shared.as_ref())
    });
    stacked(pieces.collect())
}

/// The sum of `y`, `[n, per_token, hidden]`, by `shares`, and the shared expert's `[gate, result]`.
fn mixed(fused: Option<&Fused>, y: &Array, shares: &Array, shared: Option<&[Array; 2]>) -> Array {
    if let Some(mixed) = fused.and_then(|fused| fused.mix(y, shares, shared)) {
        return mixed;
    }
    let &[n, per_token] = shares.shape() else {
        panic!("shares have rows and places");
    };
    let shares = reshape(shares, &[n, per_token, 1]);
    let routed = must((f32(y) * shares).sum_axis(1, false));
    match shared {
        Some([gate, result]) => routed + must(sigmoid(f32(gate))) * f32(result),
        None => routed,
    }
}

/// The experts of each row and their shares, `[n, per_token]`.
fn choose(logits: &Array, per_token: usize) -> [Array; 2] {
    // Sorted so that of equal logits the lower index comes first.
    let order = must(argsort_axis(must(logits.negative()), -1));
    let chosen = order.index((.., ..dim(per_token)));
    let largest = must(take_along_axis(logits, &chosen, -1));
    [chosen, must(softmax_axis(&largest, -1, true))]
}

/// What the experts of each row make of it, `[n, per_token, hidden]`.
fn routed(
    backend: &impl Backend<Tensor = Array, Matrix = MlxMatrix>,
    fused: Option<&Fused>,
    weights: &ExpertsWeights<MlxMatrix, MlxExperts>,
    x: &Array,
    chosen: &Array,
) -> Array {
    let &[n, hidden] = x.shape() else {
        panic!("activations have rows and a width");
    };
    let (per_token, inner) = (dim(weights.dims.per_token), dim(weights.dims.intermediate));
    if let Some(y) = fused.and_then(|fused| fused.experts(&weights.experts, x, chosen)) {
        return reshape(&y, &[n, per_token, hidden]);
    }
    let places = n * per_token;
    let even = |width: i32| (width as usize).is_multiple_of(SORTED_STEP);
    if (places as usize) < SORTED || !even(hidden) || !even(inner) {
        let x = reshape(x, &[n, 1, 1, hidden]);
        let shape = [n, per_token, 1, inner];
        let y = blocks(backend, fused, &weights.experts, &x, chosen, &shape, false);
        return reshape(&y, &[n, per_token, hidden]);
    }
    let chosen = reshape(chosen, &[places]);
    let order = must(argsort(&chosen));
    let from = must(order.floor_divide(Array::from_slice(&[per_token as u32], &[1])));
    let x = reshape(&rows(x, &from), &[places, 1, hidden]);
    let experts = rows(&chosen, &order);
    let shape = [places, 1, inner];
    let y = blocks(backend, fused, &weights.experts, &x, &experts, &shape, true);
    let y = rows(&reshape(&y, &[places, hidden]), &must(argsort(&order)));
    reshape(&y, &[n, per_token, hidden])
}

/// The blocks of `experts`; `inner` is the shape of the products with gate and up.
fn blocks(
    backend: &impl Backend<Tensor = Array, Matrix = MlxMatrix>,
    fused: Option<&Fused>,
    weights: &GatedWeights<MlxExperts>,
    x: &Array,
    experts: &Array,
    inner: &[i32],
    sorted: bool,
) -> Array {
    let width = inner[inner.len() - 1];
    let products = |matrices: &MlxExperts, x: &Array| {
        let x = cast(x, matrices.dtype());
        matrices
            .products(&x, experts, sorted)
            .or_else(|| fused?.unpacked_products(matrices, &x, experts, sorted))
            .expect("only kernels make tiles, and multiply them")
    };
    let [gate, up] =
        [&weights.gate, &weights.up].map(|matrices| reshape(&products(matrices, x), &[-1, width]));
    let gated = reshape(&backend.swiglu(gate, &up), inner);
    products(&weights.down, &gated)
}

#[cfg(test)]
mod tests {
    use mlx_rs::transforms::eval;

    use super::*;

    #[test]
    fn lower_index_wins_a_tie() {
        let logits = [[1.0f32, 3.0, 2.0, 3.0, 2.0], [0.0; 5]];
        let logits = Array::from_slice(logits.as_flattened(), &[2, 5]);
        let [chosen, shares] = choose(&logits, 3);
        must(eval([&chosen, &shares]));
        let chosen = reshape(&chosen, &[6]);
        must(eval([&chosen]));
        assert_eq!(chosen.as_slice::<u32>(), [1, 3, 2, 0, 1, 2]);
        let third = shares.as_slice::<f32>()[4];
        assert!((third - 1.0 / 3.0).abs() < 1e-6);
    }
}
