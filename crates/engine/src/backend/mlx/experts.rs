//! A mixture of experts from MLX's own operations.
//!
//! The rows of a product are gathered by expert. Few rows are multiplied as they come; many are sorted by expert first, so
//! that an expert's weights are read once for all of its rows.

use mlx_rs::Array;
use mlx_rs::ops::indexing::{IndexOp, take_along_axis};
use mlx_rs::ops::{argsort, argsort_axis, sigmoid, softmax_axis};

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
    weights: &ExpertsWeights<MlxMatrix, MlxExperts>,
    x: &Array,
) -> Array {
    let per_token = weights.dims.per_token;
    let [logits] = backend.project(x, [&weights.router]);
    let (chosen, shares) = choose(&f32(&logits), per_token);
    let n = x.shape()[0] as usize;
    let step = (MOST_SORTED / per_token).max(1);
    let pieces = (0..n).step_by(step).map(|start| {
        let end = n.min(start + step);
        let part = |array: &Array| range(array, start, end);
        let results = routed(backend, weights, &part(x), &part(&chosen));
        let shares = reshape(&part(&shares), &[dim(end - start), dim(per_token), 1]);
        must((f32(&results) * shares).sum_axis(1, false))
    });
    let routed = stacked(pieces.collect());
    let Some(shared) = &weights.shared else {
        return routed;
    };
    let [gate] = backend.project(x, [&shared.gate]);
    let block = &shared.block;
    let inner = backend.project_gated(x, [&block.gate, &block.up]);
    let [result] = backend.project(&inner, [&block.down]);
    routed + must(sigmoid(f32(&gate))) * f32(&result)
}

/// The experts of each row and their shares, `[n, per_token]`.
fn choose(logits: &Array, per_token: usize) -> (Array, Array) {
    // Sorted so that of equal logits the lower index comes first.
    let order = must(argsort_axis(must(logits.negative()), -1));
    let chosen = order.index((.., ..dim(per_token)));
    let largest = must(take_along_axis(logits, &chosen, -1));
    (chosen, must(softmax_axis(&largest, -1, true)))
}

/// What the experts of each row make of it, `[n, per_token, hidden]`.
fn routed(
    backend: &impl Backend<Tensor = Array, Matrix = MlxMatrix>,
    weights: &ExpertsWeights<MlxMatrix, MlxExperts>,
    x: &Array,
    chosen: &Array,
) -> Array {
    let &[n, hidden] = x.shape() else {
        panic!("activations have rows and a width");
    };
    let (per_token, inner) = (dim(weights.dims.per_token), dim(weights.dims.intermediate));
    let places = n * per_token;
    let even = |width: i32| (width as usize).is_multiple_of(SORTED_STEP);
    if (places as usize) < SORTED || !even(hidden) || !even(inner) {
        let x = reshape(x, &[n, 1, 1, hidden]);
        let shape = [n, per_token, 1, inner];
        let y = blocks(backend, &weights.experts, &x, chosen, &shape, false);
        return reshape(&y, &[n, per_token, hidden]);
    }
    let chosen = reshape(chosen, &[places]);
    let order = must(argsort(&chosen));
    let from = must(order.floor_divide(&Array::from_slice(&[per_token as u32], &[1])));
    let x = reshape(&rows(x, &from), &[places, 1, hidden]);
    let experts = rows(&chosen, &order);
    let shape = [places, 1, inner];
    let y = blocks(backend, &weights.experts, &x, &experts, &shape, true);
    let y = rows(&reshape(&y, &[places, hidden]), &must(argsort(&order)));
    reshape(&y, &[n, per_token, hidden])
}

/// The blocks of `experts`; `inner` is the shape of the products with gate and up.
fn blocks(
    backend: &impl Backend<Tensor = Array, Matrix = MlxMatrix>,
    weights: &GatedWeights<MlxExperts>,
    x: &Array,
    experts: &Array,
    inner: &[i32],
    sorted: bool,
) -> Array {
    let width = inner[inner.len() - 1];
    let [gate, up] = [&weights.gate, &weights.up].map(|matrices| {
        let product = matrices.products(&cast(x, matrices.dtype()), experts, sorted);
        reshape(&product, &[-1, width])
    });
    let gated = reshape(&backend.swiglu(gate, &up), inner);
    let down = &weights.down;
    down.products(&cast(&gated, down.dtype()), experts, sorted)
}

#[cfg(test)]
mod tests {
    use mlx_rs::transforms::eval;

    use super::*;

    #[test]
    fn lower_index_wins_a_tie() {
        let logits = [[1.0f32, 3.0, 2.0, 3.0, 2.0], [0.0; 5]];
        let logits = Array::from_slice(logits.as_flattened(), &[2, 5]);
        let (chosen, shares) = choose(&logits, 3);
        must(eval([&chosen, &shares]));
        let chosen = reshape(&chosen, &[6]);
        must(eval([&chosen]));
        assert_eq!(chosen.as_slice::<u32>(), [1, 3, 2, 0, 1, 2]);
        let third = shares.as_slice::<f32>()[4];
        assert!((third - 1.0 / 3.0).abs() < 1e-6);
    }
}
