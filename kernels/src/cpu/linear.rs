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
//! - `matrix`: what weights look like; `activations`: what activations are rounded to.
//! - `rows` and `panels` multiply with rounded activations, few or many at a time (`weights` is what panels are cut
//!   from); `dense` multiplies in f32.
//! - `lanes` says in which vector operations they are written; `portable`, `avx2`, `avx512` and `neon` are these;
//!   `dispatch` chooses among them.

// Lanes of several vectors are walked in step; an iterator over one of them would hide that.
#![allow(clippy::needless_range_loop)]

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod disjoint;
mod dispatch;
mod lanes;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panels;
mod portable;
mod rows;
#[cfg(test)]
mod tests;
mod weights;

use std::ops::Range;

use super::Cpu;
use activations::{Activations, FEW};
use dense::{Gather, Products};
use disjoint::Disjoint;
use dispatch::dispatch;
use lanes::MAX_ROWS;
pub use matrix::{Affine, AffineParts, Dense, Float, Matrix, MatrixError};
use panels::{MAX_TILE_ROWS, Panels};
use rows::RowProducts;

/// How activations meet quantised weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 activations times dequantised weights.
    Exact,
    /// Activations rounded to eight bits a group: an output is off by half a percent of a typical output, by two
    /// where one channel in a hundred is fifty times larger than the others.
    Fast,
}

/// Bytes of a tile of rounded activations, small enough to stay in a core's second-level cache while the weights are
/// read.
const TILE_BYTES: usize = 512 << 10;

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
    assert_eq!(
        x.len(),
        n * cols,
        "activations are not whole rows of {cols}"
    );
    for (matrix, out) in &*outs {
        assert_eq!(matrix.cols(), cols, "a matrix does not fit the activations");
        assert_eq!(out.len(), n * matrix.rows(), "an output has the wrong size");
    }
    if n == 0 {
        return;
    }
    let tile_rows = tile_rows(n, cols);
    let mut rounded: Vec<(_, Activations)> = Vec::new();
    let mut parts = Vec::with_capacity(outs.len());
    let mut panels = 0;
    for (matrix, out) in outs {
        let mut quantised = None;
        if let (Matrix::Affine(m), Precision::Fast) = (*matrix, precision) {
            let kind = (m.bits, m.group);
            let index = rounded.iter().position(|(k, _)| *k == kind);
            quantised = Some(index.unwrap_or_else(|| {
                let activations = Activations::new(cpu, x, cols, m.bits, m.group, tile_rows);
                rounded.push((kind, activations));
                rounded.len() - 1
            }));
        }
        parts.push(Part {
            matrix: *matrix,
            out: Disjoint::new(out),
            quantised,
            first_panel: panels,
        });
        panels += matrix.rows().div_ceil(MAX_ROWS);
    }
    // One task works on some panels, counted through all matrices and then on to the next tile of activations.
    let tiles = n.div_ceil(tile_rows);
    cpu.pool.split(tiles * panels, 1, &|range| {
        for tile in range.start / panels..range.end.div_ceil(panels) {
            let begin = range.start.max(tile * panels) - tile * panels;
            let end = range.end.min((tile + 1) * panels) - tile * panels;
            let first = tile * tile_rows;
            let x = &x[first * cols..n.min(first + tile_rows) * cols];
            for part in &parts {
                let rows = part.rows(begin..end);
                if rows.is_empty() {
                    continue;
                }
                let Part { matrix, out, .. } = part;
                match (*matrix, part.quantised) {
                    (Matrix::Affine(matrix), Some(index)) if n <= FEW => dispatch(
                        cpu.isa,
                        RowProducts {
                            matrix,
                            rows,
                            x: rounded[index].1.tile(tile),
                            out,
                        },
                    ),
                    (Matrix::Affine(matrix), Some(index)) => dispatch(
                        cpu.isa,
                        Panels {
                            matrix,
                            rows,
                            tile: rounded[index].1.tile(tile),
                            out,
                            first,
                        },
                    ),
                    (matrix, _) => dispatch(
                        cpu.isa,
                        Products {
                            matrix,
                            rows,
                            x,
                            out,
                            first,
                        },
                    ),
                }
            }
        }
    });
}

/// One matrix of a call.
struct Part<'a> {
    matrix: Matrix<'a>,
    out: Disjoint<'a, f32>,
    /// Which of the rounded activations it is multiplied with; none if with the activations themselves.
    quantised: Option<usize>,
    /// Panels of the matrices before it.
    first_panel: usize,
}

impl Part<'_> {
    /// The matrix's rows in the given panels of the call.
    fn rows(&self, panels: Range<usize>) -> Range<usize> {
        let row = |panel: usize| {
            (panel.saturating_sub(self.first_panel) * MAX_ROWS).min(self.matrix.rows())
        };
        row(panels.start)..row(panels.end)
    }
}

/// Activation rows in a tile: as many as stay in cache, in tiles of about the same size.
fn tile_rows(n: usize, cols: usize) -> usize {
    let most = (TILE_BYTES / cols).clamp(MAX_ROWS, MAX_TILE_ROWS);
    n.div_ceil(n.div_ceil(most)).next_multiple_of(8)
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
