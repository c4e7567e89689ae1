//! Matrix products: `y = x · Wᵀ`, with the weights left where and as they lie in the checkpoint.
//!
//! There are two ways to multiply with a quantised matrix. [`Precision::Exact`] turns weights into f32 and multiplies
//! them with the activations as they are; it is what the other is measured against. [`Precision::Fast`] rounds the
//! activations to eight bits a group, sums integer products, and applies scales and biases once a group. Dense
//! matrices are multiplied in f32 either way.
//!
//! An output is always reduced in one order, whatever the instruction set, the number of threads and the other
//! rows and matrices of the call are: results are the same bit for bit.
//!
//! - `matrix`: what weights look like; `activation_rows`: rows of activations; `activations`: what they are rounded to.
//! - `products` divides all products of a call over the threads.
//! - `widen` packs codes of other widths again, with 4 or 8 bits; `blocks` turns block formats into codes or plain numbers.
//! - `rows` and `panels` multiply with rounded activations, few or many at a time (`weights` is what panels are cut
//!   from); `dense` multiplies in f32.
//! - `lanes` says in which vector operations they are written; `portable`, `avx2`, `avx512` and `neon` are these;
//!   `dispatch` chooses among them.

// Lanes of several vectors are walked in step; an iterator over one of them would hide that.
#![allow(clippy::needless_range_loop)]

mod activation_rows;
mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod dense;
mod disjoint;
mod dispatch;
mod lanes;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panels;
mod portable;
mod products;
mod rows;
#[cfg(test)]
mod tests;
mod weights;
mod widen;

use super::Cpu;
pub(super) use activation_rows::{ActivationRows, ActivationRuns};
pub use blocks::{BlockFormat, affine_of_mxfp4, bf16_of_blocks};
use dense::Gather;
use disjoint::Disjoint;
use dispatch::dispatch;
pub use matrix::{Affine, AffineParts, Dense, Float, Matrix, MatrixError};
pub use products::Precision;
pub(super) use products::{Product, multiply};
pub use widen::{widen_codes, widened_bits};

/// Multiplies `x`, `[n, cols]`, with several matrices at once: each output is `[n, matrix.rows()]`.
///
/// # Panics
/// If the lengths disagree with the shapes.
pub fn project(
    cpu: &Cpu,
    precision: Precision,
    x: &[f32],
    cols: usize,
    outs: &mut [(Matrix<'_>, &mut [f32])],
) {
    if cols == 0 {
        outs.iter_mut().for_each(|(_, out)| out.fill(0.0));
        return;
    }
    let n = x.len() / cols;
    let input = ActivationRuns::new(ActivationRows::all(x, cols), &[n]);
    let products = outs.iter_mut().map(|(matrix, out)| Product {
        input: 0,
        run: 0,
        matrix: *matrix,
        precision,
        out,
    });
    multiply(cpu, &[input], products.collect());
}

/// Writes row `tokens[i]` of the matrix to row `i` of `out`, `[tokens, cols]`: the embedding look-up.
///
/// # Panics
/// If a token is not a row of the matrix or `out` has the wrong length.
pub fn gather(cpu: &Cpu, matrix: Matrix<'_>, tokens: &[u32], out: &mut [f32]) {
    let cols = matrix.cols();
    assert_eq!(
        out.len(),
        tokens.len() * cols,
        "the output has the wrong size"
    );
    for &token in tokens {
        assert!(
            (token as usize) < matrix.rows(),
            "no row {token} in the matrix"
        );
    }
    let out = Disjoint::new(out);
    cpu.pool.split(tokens.len(), 8, &|range| {
        dispatch(
            cpu.isa,
            Gather {
                matrix,
                rows: &tokens[range.clone()],
                // SAFETY: the ranges of one call do not overlap.
                out: unsafe { out.slice(range.start * cols..range.end * cols) },
            },
        );
    });
}
