//! MLX's operations as the rest of the backend says them.
//!
//! An operation fails only if shapes or types do not fit, which is a mistake here and no input's fault, or if memory
//! runs out while it is evaluated: both end the engine with MLX's own message.

use mlx_rs::error::Exception;
use mlx_rs::ops::indexing::{IndexOp, scatter_single, take_axis};
use mlx_rs::ops::{self, concatenate, sigmoid};
use mlx_rs::{Array, Dtype};

/// An operation's result.
///
/// # Panics
/// With MLX's message if it failed.
pub(super) fn must<T>(result: Result<T, Exception>) -> T {
    result.unwrap_or_else(|error| panic!("MLX: {error}"))
}

/// A dimension as MLX counts.
pub(super) fn dim(n: usize) -> i32 {
    i32::try_from(n).expect("a dimension below 2^31")
}

/// Indices along an axis.
pub(super) fn indices(values: impl IntoIterator<Item = usize>) -> Array {
    let values: Vec<i32> = values.into_iter().map(dim).collect();
    Array::from_slice(&values, &[dim(values.len())])
}

pub(super) fn zeros(shape: &[i32], dtype: Dtype) -> Array {
    must(ops::zeros_dtype(shape, dtype))
}

pub(super) fn cast(x: &Array, dtype: Dtype) -> Array {
    must(x.as_dtype(dtype))
}

pub(super) fn f32(x: &Array) -> Array {
    cast(x, Dtype::Float32)
}

pub(super) fn reshape(x: &Array, shape: &[i32]) -> Array {
    must(x.reshape(shape))
}

/// Rows of the first axis.
pub(super) fn rows(x: &Array, indices: &Array) -> Array {
    must(take_axis(x, indices, 0))
}

/// `start..end` of the first axis.
pub(super) fn range(x: &Array, start: usize, end: usize) -> Array {
    match (start, x.shape()[0] == dim(end)) {
        (0, true) => x.clone(),
        _ => x.index(dim(start)..dim(end)),
    }
}

/// One after the other along the first axis.
pub(super) fn stacked(mut parts: Vec<Array>) -> Array {
    match parts.len() {
        1 => parts.remove(0),
        _ => must(concatenate(&parts, 0)),
    }
}

/// `x` with some rows of the first axis replaced. The memory of `x` is reused if there is no other reference to it.
pub(super) fn with_rows(x: Array, indices: &Array, rows: &Array) -> Array {
    let mut shape = rows.shape().to_vec();
    shape.insert(1, 1);
    must(scatter_single(x, indices, reshape(rows, &shape), 0))
}

/// `x · sigmoid(x)`, as two plain operations: MLX's fused one wants a C++ compiler on its CPU device.
pub(super) fn silu(x: &Array) -> Array {
    x * must(sigmoid(x))
}

/// `ln(1 + e^x)`.
pub(super) fn softplus(x: &Array) -> Array {
    must(ops::logaddexp(x, Array::from_f32(0.0)))
}

/// Sums of the last axis.
pub(super) fn sum_last(x: &Array, keep: bool) -> Array {
    must(x.sum_axis(-1, keep))
}
