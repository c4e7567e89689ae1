//! The quantised product for many rows of activations: as fast as bytes can be multiplied.
//!
//! One output is `Σ_g scale_g · step_g · Σ_k q_k · a_k + bias_g · total_g` over the groups `g` of a row. The inner
//! sums are integers and therefore exact in any order. The outer one has eight parts, of which part `l` takes the
//! groups with `g mod 8 = l` in their order with two fused multiply-adds each; then the parts are added pairwise.
//! Nothing in it depends on how many rows there are or on how they are cut up, so neither does the result, and
//! [`super::rows`] comes to the same one.
//!
//! Here the rows of a panel are lanes: each group of weights is unpacked once for a whole tile of activations.
//! Closures are avoided: one that is not inlined is compiled without the caller's instruction set.

use std::ops::Range;

use super::activation_rows::MAX_TILE_ROWS;
use super::activations::ActivationTile;
use super::disjoint::Disjoint;
use super::lanes::{BLOCK, LINE, Lanes, MAX_ROWS, PARTS, Routine};
use super::matrix::{Affine, Bits};
use super::weights::{Panel, PanelWeights};

/// How far ahead activations are asked for, in bytes.
const NEAR: usize = 1024;

/// Multiplies `rows` of `matrix` with a tile of activations.
///
/// The creator guarantees that nothing else uses the outputs that it writes.
pub(super) struct Panels<'a> {
    pub matrix: Affine<'a>,
    pub rows: Range<usize>,
    pub tile: ActivationTile<'a>,
    /// `[all activation rows, matrix.rows]`
    pub out: &'a Disjoint<'a, f32>,
    /// The tile's first row among all activation rows.
    pub first: usize,
}

impl Routine for Panels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let weights = PanelWeights::of(&self.matrix, L::ROWS);
        // SAFETY: as for `run`.
        let mut y = unsafe { [[L::zero(); MAX_TILE_ROWS]; PARTS] };
        let mut row = self.rows.start;
        while row < self.rows.end {
            // The last panel of a matrix is moved back until it is whole; what it shares with the one before it
            // is computed again and not written.
            let first = row.min(weights.rows() - L::ROWS);
            let panel = weights.panel::<L>(first);
            let target = PanelTarget {
                out: self.out,
                stride: self.matrix.rows,
                first: self.first,
                rows: row..self.rows.end.min(row + L::ROWS),
                skip: row - first,
            };
            // SAFETY: as for `run`.
            unsafe {
                match self.matrix.bits {
                    Bits::Four => many::<L, true>(&panel, &self.tile, &mut y, &target),
                    Bits::Eight => many::<L, false>(&panel, &self.tile, &mut y, &target),
                }
            }
            row += L::ROWS;
        }
    }
}

/// Where a panel's results go.
struct PanelTarget<'a> {
    out: &'a Disjoint<'a, f32>,
    /// Results of one activation row.
    stride: usize,
    /// The tile's first row.
    first: usize,
    /// The weight rows whose results are wanted.
    rows: Range<usize>,
    /// Lanes before the first of them.
    skip: usize,
}

impl PanelTarget<'_> {
    /// Writes the results of the tile's row `n`, one a lane.
    #[inline(always)]
    unsafe fn write<L: Lanes>(&self, n: usize, y: L::Floats) {
        let at = (self.first + n) * self.stride;
        // SAFETY: these outputs are the task's own, as `Panels` says.
        let out = unsafe { self.out.slice(at + self.rows.start..at + self.rows.end) };
        if out.len() == L::ROWS {
            // SAFETY: there is room for every lane.
            unsafe { L::store(y, out.as_mut_ptr()) };
        } else {
            let mut lanes = [0.0; MAX_ROWS];
            // SAFETY: MAX_ROWS is the most that an instruction set stores.
            unsafe { L::store(y, lanes.as_mut_ptr()) };
            out.copy_from_slice(&lanes[self.skip..][..out.len()]);
        }
    }
}

/// Bytes from a tile's beginning to the activations of row 0 that meet the given column of packed weights.
#[inline(always)]
fn column_offset<const FOUR: bool>(column: usize, rows: usize) -> usize {
    let per_block = if FOUR { BLOCK / 32 } else { BLOCK / 16 };
    column / per_block * rows * BLOCK + column % per_block * 16
}

#[inline(always)]
unsafe fn unpack<L: Lanes, const FOUR: bool>(words: [L::Words; 4]) -> L::Column {
    // SAFETY: as the caller vouches.
    unsafe {
        if FOUR {
            L::unpack4(words)
        } else {
            L::unpack8(words)
        }
    }
}

#[inline(always)]
unsafe fn dot<L: Lanes, const FOUR: bool, const N: usize>(
    sums: &mut [L::Ints; N],
    column: &L::Column,
    x: *const i8,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        if FOUR {
            L::dot4(sums, column, x);
        } else {
            L::dot8(sums, column, x);
        }
    }
}

/// One panel times any number of activation rows: a stretch of weights is unpacked once for all of them.
///
/// `y` is where the parts are summed up. Each starts with its first group, so that nothing need be cleared between
/// panels; parts without a group must be zero and stay so.
#[inline(always)]
unsafe fn many<L: Lanes, const FOUR: bool>(
    panel: &Panel<'_>,
    tile: &ActivationTile<'_>,
    y: &mut [[L::Floats; MAX_TILE_ROWS]; PARTS],
    target: &PanelTarget<'_>,
) {
    let per_group = panel.columns_per_group;
    let columns = panel.groups * per_group;
    // A line, unless a group is longer.
    let stretch = per_group.max(LINE);
    // SAFETY: every column of every row is within the panel's weights, and the tile has activations for each.
    unsafe {
        let mut parameters = [[L::zero(); 2]; PARTS];
        let nothing = unpack::<L, FOUR>(L::transpose(panel.packed, panel.stride));
        let mut unpacked = [nothing; 2 * LINE];
        for first in (0..columns).step_by(stretch) {
            let count = stretch.min(columns - first);
            for line in 0..count / LINE {
                panel.prefetch::<L>(first / LINE + line);
                let at = panel.packed.add((first + line * LINE) * 16);
                let [a, b, c, d] = L::transpose_line(at, panel.stride);
                unpacked[line * LINE] = unpack::<L, FOUR>(a);
                unpacked[line * LINE + 1] = unpack::<L, FOUR>(b);
                unpacked[line * LINE + 2] = unpack::<L, FOUR>(c);
                unpacked[line * LINE + 3] = unpack::<L, FOUR>(d);
            }
            for column in count / LINE * LINE..count {
                let words = L::transpose(panel.packed.add((first + column) * 16), panel.stride);
                unpacked[column] = unpack::<L, FOUR>(words);
            }
            for column in (0..count).step_by(per_group) {
                let group = (first + column) / per_group;
                let part = group % PARTS;
                if part == 0 {
                    parameters = panel.parameters::<L>(group);
                }
                let group = PanelGroup::<L> {
                    fresh: group < PARTS,
                    columns: &unpacked[column..][..per_group],
                    first_column: first + column,
                    parameters: parameters[part],
                    steps: &tile.steps[group * tile.rows..][..tile.rows],
                    totals: &tile.totals[group * tile.rows..][..tile.rows],
                };
                let y = &mut y[part];
                let mut row = 0;
                if L::TILE >= 8 {
                    row = group.multiply::<FOUR, 8>(tile, y, row);
                }
                if L::TILE >= 4 {
                    row = group.multiply::<FOUR, 4>(tile, y, row);
                }
                if L::TILE >= 2 {
                    row = group.multiply::<FOUR, 2>(tile, y, row);
                }
                group.multiply::<FOUR, 1>(tile, y, row);
            }
        }
        for n in 0..tile.rows {
            let even = L::add(L::add(y[0][n], y[4][n]), L::add(y[2][n], y[6][n]));
            let odd = L::add(L::add(y[1][n], y[5][n]), L::add(y[3][n], y[7][n]));
            target.write::<L>(n, L::add(L::add(even, odd), L::zero()));
        }
    }
}

/// One group of a panel, unpacked.
struct PanelGroup<'a, L: Lanes> {
    /// Whether it is the first of its part.
    fresh: bool,
    columns: &'a [L::Column],
    /// The number of the first column within the rows.
    first_column: usize,
    parameters: [L::Floats; 2],
    /// One a row of activations.
    steps: &'a [f32],
    /// One a row of activations.
    totals: &'a [f32],
}

impl<L: Lanes> PanelGroup<'_, L> {
    /// Multiplies with the activation rows from `row` on, as long as `N` are left; returns the next row.
    #[inline(always)]
    unsafe fn multiply<const FOUR: bool, const N: usize>(
        &self,
        tile: &ActivationTile<'_>,
        y: &mut [L::Floats; MAX_TILE_ROWS],
        mut row: usize,
    ) -> usize {
        let ahead = column_offset::<FOUR>(self.first_column, tile.rows) / BLOCK * BLOCK + NEAR;
        while row + N <= tile.rows {
            // SAFETY: the tile has activations for every column and rows row..row + N.
            unsafe {
                let x = tile.values.as_ptr().add(row * BLOCK);
                for line in 0..2 * N {
                    L::prefetch_near(x.cast::<u8>().wrapping_add(ahead + 64 * line));
                }
                let mut sums = [L::zero_ints(); N];
                for (i, w) in self.columns.iter().enumerate() {
                    let offset = column_offset::<FOUR>(self.first_column + i, tile.rows);
                    dot::<L, FOUR, N>(&mut sums, w, x.add(offset));
                }
                let y = &mut y[row..][..N];
                let (steps, totals) = (&self.steps[row..][..N], &self.totals[row..][..N]);
                for n in 0..N {
                    let activations = [steps[n], totals[n]];
                    let before = if self.fresh { L::zero() } else { y[n] };
                    y[n] = L::accumulate(before, sums[n], self.parameters, activations);
                }
            }
            row += N;
        }
        row
    }
}

/// Adds the parts of one output pairwise, and zero, so that an underflow to -0.0 in padding or its absence cannot be
/// told apart.
#[inline(always)]
pub(super) fn add_pairwise([a, b, c, d, e, f, g, h]: [f32; PARTS]) -> f32 {
    ((a + e) + (c + g)) + ((b + f) + (d + h)) + 0.0
}
