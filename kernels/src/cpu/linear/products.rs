//! Any number of products in one call of the pool, divided evenly over its threads.

use std::ops::Range;

use super::activation_rows::ActivationRuns;
use super::activations::{Activations, FEW};
use super::dense::Products;
use super::disjoint::Disjoint;
use super::dispatch::dispatch;
use super::lanes::MAX_ROWS;
use super::matrix::{Bits, Matrix};
use super::panels::Panels;
use super::rows::RowProducts;
use crate::cpu::Cpu;

/// Reading and unpacking a panel of weights takes about as long as multiplying so many rows of activations with it.
const READING: usize = 8;

/// How activations meet quantised weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 activations times dequantised weights.
    Exact,
    /// Activations rounded to eight bits a group: an output is off by half a percent of a typical output, by two
    /// where one channel in a hundred is fifty times larger than the others.
    Fast,
}

/// One product: `out = x Wᵀ` for the rows of a run.
pub(in crate::cpu) struct Product<'a> {
    /// Which of the call's inputs it reads.
    pub(in crate::cpu) input: usize,
    /// Which run of that input.
    pub(in crate::cpu) run: usize,
    /// `[rows, cols]`.
    pub(in crate::cpu) matrix: Matrix<'a>,
    /// How the matrix is multiplied if it is quantised.
    pub(in crate::cpu) precision: Precision,
    /// `[rows of the run, matrix.rows]`.
    pub(in crate::cpu) out: &'a mut [f32],
}

/// Computes all products. Those that share a run should follow each other: they are computed tile by tile, together.
///
/// # Panics
/// If the lengths disagree with the shapes.
pub(in crate::cpu) fn multiply(
    cpu: &Cpu,
    inputs: &[ActivationRuns<'_>],
    products: Vec<Product<'_>>,
) {
    let mut rounded = Rounded::default();
    let parts: Vec<Part<'_>> = products
        .into_iter()
        .map(|product| Part::new(cpu, inputs, product, &mut rounded))
        .collect();
    let (mut pieces, mut cost, mut panels) = (Vec::new(), 0, 0);
    for together in parts.chunk_by(|a, b| (a.input, a.run) == (b.input, b.run)) {
        for tile in inputs[together[0].input].run(together[0].run) {
            for part in together.iter().filter(|part| part.matrix.rows() > 0) {
                let piece = TileProduct::new(inputs, part, tile, cost);
                cost = piece.end();
                panels += piece.panels;
                pieces.push(piece);
            }
        }
    }
    // Each run takes the panels whose cost begins in its share of all costs, so no panel is computed twice.
    // Several runs a thread balance cores of different speed and cores that other processes use.
    let runs = panels.min(cpu.pool.threads() * 4);
    cpu.pool.run(runs, &|run| {
        let costs = cost * run / runs..cost * (run + 1) / runs;
        let first = pieces.partition_point(|piece| piece.end() <= costs.start);
        let own = pieces[first..].iter();
        for piece in own.take_while(|piece| piece.start < costs.end) {
            let rows = piece.rows(&costs);
            if !rows.is_empty() {
                piece.compute(cpu, inputs, &rounded, rows);
            }
        }
    });
}

/// The inputs of a call as they are rounded for its matrices.
#[derive(Default)]
struct Rounded(Vec<((usize, Bits, usize), Activations)>);

/// A product whose shapes fit.
struct Part<'a> {
    input: usize,
    run: usize,
    matrix: Matrix<'a>,
    out: Disjoint<'a, f32>,
    /// Which of the rounded inputs it is multiplied with; none if with the activations themselves.
    rounded: Option<usize>,
}

impl<'a> Part<'a> {
    fn new(
        cpu: &Cpu,
        inputs: &[ActivationRuns<'_>],
        product: Product<'a>,
        rounded: &mut Rounded,
    ) -> Self {
        let Product {
            input,
            run,
            matrix,
            precision,
            out,
        } = product;
        let x = &inputs[input];
        assert_eq!(
            matrix.cols(),
            x.rows().cols(),
            "a matrix does not fit the activations"
        );
        assert_eq!(
            out.len(),
            x.run_rows(run).len() * matrix.rows(),
            "an output has the wrong size"
        );
        let rounded = match (matrix, precision) {
            (Matrix::Affine(m), Precision::Fast) => {
                let kind = (input, m.bits, m.group);
                let known = rounded.0.iter().position(|(k, _)| *k == kind);
                Some(known.unwrap_or_else(|| {
                    let activations = Activations::new(cpu, x.rows(), x.tiles(), m.bits, m.group);
                    rounded.0.push((kind, activations));
                    rounded.0.len() - 1
                }))
            }
            _ => None,
        };
        Self {
            input,
            run,
            matrix,
            out: Disjoint::new(out),
            rounded,
        }
    }
}

/// One tile of activations times one matrix: a number of panels of equal cost.
struct TileProduct<'p, 'a> {
    part: &'p Part<'a>,
    tile: usize,
    panels: usize,
    /// The cost of all pieces before this one.
    start: usize,
    /// The cost of a panel.
    each: usize,
}

impl<'p, 'a> TileProduct<'p, 'a> {
    fn new(inputs: &[ActivationRuns<'_>], part: &'p Part<'a>, tile: usize, start: usize) -> Self {
        let rows = part.matrix.rows();
        let tile_rows = inputs[part.input].tiles()[tile].len();
        Self {
            part,
            tile,
            panels: rows.div_ceil(MAX_ROWS),
            start,
            each: (part.matrix.bytes() / rows).max(1) * (READING + tile_rows),
        }
    }

    fn end(&self) -> usize {
        self.start + self.panels * self.each
    }

    /// The matrix's rows in the panels whose cost begins within `costs`.
    fn rows(&self, costs: &Range<usize>) -> Range<usize> {
        let row = |cost: usize| {
            let panel = cost.saturating_sub(self.start).div_ceil(self.each);
            (panel * MAX_ROWS).min(self.part.matrix.rows())
        };
        row(costs.start)..row(costs.end)
    }

    fn compute(
        &self,
        cpu: &Cpu,
        inputs: &[ActivationRuns<'_>],
        rounded: &Rounded,
        rows: Range<usize>,
    ) {
        let Part {
            input,
            run,
            matrix,
            out,
            rounded: kind,
        } = self.part;
        let input = &inputs[*input];
        let tile = input.tiles()[self.tile].clone();
        let first = tile.start - input.run_rows(*run).start;
        match (*matrix, *kind) {
            (Matrix::Affine(matrix), Some(kind)) => {
                let tile = rounded.0[kind].1.tile(self.tile);
                match tile.rows <= FEW {
                    true => dispatch(
                        cpu.isa,
                        RowProducts {
                            matrix,
                            rows,
                            tile,
                            out,
                            first,
                        },
                    ),
                    false => dispatch(
                        cpu.isa,
                        Panels {
                            matrix,
                            rows,
                            tile,
                            out,
                            first,
                        },
                    ),
                }
            }
            (matrix, _) => dispatch(
                cpu.isa,
                Products {
                    matrix,
                    rows,
                    x: input.rows().slice(tile),
                    out,
                    first,
                },
            ),
        }
    }
}
