//! The rows of activations of a call, and how they are divided into tiles.

use std::ops::Range;

use super::lanes::MAX_ROWS;

/// The most activation rows in a tile.
pub(super) const MAX_TILE_ROWS: usize = 64;

/// Bytes of a tile of rounded activations, small enough to stay in a core's second-level cache while the weights are
/// read.
const TILE_BYTES: usize = 512 << 10;

/// Rows of activations: consecutive ones, or those that an index names.
#[derive(Clone, Copy, Debug)]
pub(in crate::cpu) struct ActivationRows<'a> {
    x: &'a [f32],
    cols: usize,
    index: Option<&'a [u32]>,
}

impl<'a> ActivationRows<'a> {
    /// All rows of `x`, `[n, cols]`.
    pub(in crate::cpu) fn all(x: &'a [f32], cols: usize) -> Self {
        assert!(
            x.len().is_multiple_of(cols),
            "activations are not whole rows of {cols}"
        );
        let index = None;
        Self { x, cols, index }
    }

    /// Row `index[i]` of `x` as row `i`.
    pub(in crate::cpu) fn picked(x: &'a [f32], cols: usize, index: &'a [u32]) -> Self {
        let index = Some(index);
        Self { x, cols, index }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.index
            .map_or(self.x.len() / self.cols, |index| index.len())
    }

    /// Activations a row.
    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        let row = self.index.map_or(row, |index| index[row] as usize);
        &self.x[row * self.cols..][..self.cols]
    }

    /// Some of them.
    pub(super) fn slice(&self, rows: Range<usize>) -> Self {
        match self.index {
            Some(index) => Self {
                index: Some(&index[rows]),
                ..*self
            },
            None => Self {
                x: &self.x[rows.start * self.cols..rows.end * self.cols],
                ..*self
            },
        }
    }
}

/// Rows of activations in runs: the rows of a run are multiplied with the same matrices.
#[derive(Debug)]
pub(in crate::cpu) struct ActivationRuns<'a> {
    rows: ActivationRows<'a>,
    /// The rows of each tile; the tiles of a run are of about the same size.
    tiles: Vec<Range<usize>>,
    /// The tiles of each run.
    runs: Vec<Range<usize>>,
}

impl<'a> ActivationRuns<'a> {
    /// Divides `rows` into runs, of which each ends where `ends` says.
    ///
    /// # Panics
    /// If the last run does not end with the rows.
    pub(in crate::cpu) fn new(rows: ActivationRows<'a>, ends: &[usize]) -> Self {
        assert_eq!(
            ends.last().copied().unwrap_or(0),
            rows.len(),
            "the runs are not the rows"
        );
        let (mut tiles, mut runs) = (Vec::new(), Vec::with_capacity(ends.len()));
        let mut start = 0;
        for &end in ends {
            let first = tiles.len();
            let size = tile_rows(end - start, rows.cols);
            while start < end {
                tiles.push(start..end.min(start + size));
                start = end.min(start + size);
            }
            runs.push(first..tiles.len());
        }
        Self { rows, tiles, runs }
    }

    pub(super) fn rows(&self) -> ActivationRows<'a> {
        self.rows
    }

    /// The rows of every tile.
    pub(super) fn tiles(&self) -> &[Range<usize>] {
        &self.tiles
    }

    /// The tiles of a run.
    pub(super) fn run(&self, run: usize) -> Range<usize> {
        self.runs[run].clone()
    }

    /// The rows of a run.
    pub(super) fn run_rows(&self, run: usize) -> Range<usize> {
        let tiles = &self.tiles[self.run(run)];
        match (tiles.first(), tiles.last()) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => 0..0,
        }
    }
}

/// Activation rows in a tile of a run of `n`: as many as stay in cache, in tiles of about the same size.
fn tile_rows(n: usize, cols: usize) -> usize {
    let most = (TILE_BYTES / cols).clamp(MAX_ROWS, MAX_TILE_ROWS);
    n.div_ceil(n.div_ceil(most).max(1)).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_do_not_cross_runs() {
        let x = vec![0.0; 100 * 32];
        let input = ActivationRuns::new(ActivationRows::all(&x, 32), &[3, 3, 90, 100]);
        assert_eq!(input.tiles(), [0..3, 3..51, 51..90, 90..100]);
        let runs: Vec<_> = (0..4).map(|run| input.run(run)).collect();
        assert_eq!(runs, [0..1, 1..1, 1..3, 3..4]);
        assert_eq!(input.run_rows(2), 3..90);
        assert!(input.run_rows(1).is_empty());
    }

    #[test]
    fn index_names_the_rows() {
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let rows = ActivationRows::picked(&x, 3, &[3, 0, 3]);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows.row(0), [9.0, 10.0, 11.0]);
        assert_eq!(rows.slice(1..3).row(0), [0.0, 1.0, 2.0]);
        assert_eq!(
            ActivationRows::all(&x, 3).slice(2..4).row(1),
            [9.0, 10.0, 11.0]
        );
    }
}
