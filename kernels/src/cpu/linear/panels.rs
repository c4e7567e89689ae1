//! The quantised product proper: panels of weights times tiles of rounded activations.
//!
//! One output is `Σ_g scale_g · step_g · Σ_k q_k · a_k + bias_g · sum_g` over the groups `g` of a row: the inner
//! sums are integers and therefore exact in any order, the outer one runs over the groups in their order with two
//! fused multiply-adds each. Nothing in it depends on how many rows there are or on how they are cut up, so
//! neither does the result.
//!
//! One row of activations is as fast as memory can be read, and takes the weights as they come; several rows are as
//! fast as bytes can be multiplied, and share what was unpacked. Closures are avoided throughout: one that is not
//! inlined is compiled without the caller's instruction set.

use std::ops::Range;

use super::activations::{GroupScale, Tile};
use super::disjoint::Disjoint;
use super::lanes::{BLOCK, LINE, Lanes, MAX_ROWS, Routine};
use super::matrix::{Affine, Bits};
use super::weights::{Panel, SPAN, Weights};

/// The most activation rows in a tile.
pub(super) const MAX_TILE_ROWS: usize = 128;

/// How far ahead activations are asked for, in bytes.
const NEAR: usize = 1024;

/// Multiplies `rows` of `matrix` with a tile of activations.
///
/// Whoever makes one vouches that nothing else uses the outputs that it is to write.
pub(super) struct Panels<'a> {
    pub matrix: Affine<'a>,
    pub rows: Range<usize>,
    pub tile: Tile<'a>,
    /// `[all activation rows, matrix.rows]`
    pub out: &'a Disjoint<'a, f32>,
    /// The tile's first row among all activation rows.
    pub first: usize,
}

impl Routine for Panels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let weights = Weights::of(&self.matrix, L::ROWS);
        let mut row = self.rows.start;
        while row < self.rows.end {
            // The last panel of a matrix is moved back until it is whole; what it shares with the one before it
            // is computed again and not written.
            let first = row.min(weights.rows() - L::ROWS);
            let panel = weights.panel::<L>(first);
            let target = Target {
                out: self.out,
                stride: self.matrix.rows,
                first: self.first,
                rows: row..self.rows.end.min(row + L::ROWS),
                skip: row - first,
            };
            // SAFETY: as for `run`; a group has as many columns as its size and bits say.
            unsafe {
                match (self.matrix.bits, panel.columns_per_group) {
                    (Bits::Four, _) if self.tile.rows > 1 => {
                        many::<L, true>(&panel, &self.tile, &target);
                    }
                    (Bits::Four, 1) => one::<L, true, 1>(&panel, &self.tile, &target),
                    (Bits::Four, 2) => one::<L, true, 2>(&panel, &self.tile, &target),
                    (Bits::Four, _) => one::<L, true, 4>(&panel, &self.tile, &target),
                    (Bits::Eight, _) if self.tile.rows > 1 => {
                        many::<L, false>(&panel, &self.tile, &target);
                    }
                    (Bits::Eight, 2) => one::<L, false, 2>(&panel, &self.tile, &target),
                    (Bits::Eight, 4) => one::<L, false, 4>(&panel, &self.tile, &target),
                    (Bits::Eight, _) => one::<L, false, 8>(&panel, &self.tile, &target),
                }
            }
            row += L::ROWS;
        }
    }
}

/// Where a panel's results go.
struct Target<'a> {
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

impl Target<'_> {
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

/// One panel times one activation row, with `COLUMNS` columns a group.
#[inline(always)]
unsafe fn one<L: Lanes, const FOUR: bool, const COLUMNS: usize>(
    panel: &Panel<'_>,
    tile: &Tile<'_>,
    target: &Target<'_>,
) {
    let x = tile.values.as_ptr();
    // SAFETY: every column of every row is within the panel's weights, and the tile has activations for each.
    unsafe {
        let mut y = L::zero();
        let mut column = 0;
        for span in (0..panel.groups).step_by(SPAN) {
            let parameters = panel.parameters::<L>(span);
            let mut group = Sum::<L> {
                parameters: &parameters,
                scales: &tile.scales[span..],
                index: 0,
            };
            let end = (span + SPAN).min(panel.groups) * COLUMNS;
            let mut begun = L::zero_ints();
            while column + LINE <= end {
                panel.prefetch::<L>(column / LINE);
                let at = panel.packed.add(column * 16);
                let x = x.add(column_offset::<FOUR>(column, 1));
                let [a, b, c, d] = if FOUR {
                    L::line4(at, panel.stride, x)
                } else {
                    L::line8(at, panel.stride, x)
                };
                let (ab, cd) = (L::add(a, b), L::add(c, d));
                match COLUMNS {
                    1 => {
                        y = group.close(y, a);
                        y = group.close(y, b);
                        y = group.close(y, c);
                        y = group.close(y, d);
                    }
                    2 => {
                        y = group.close(y, ab);
                        y = group.close(y, cd);
                    }
                    4 => y = group.close(y, L::add(ab, cd)),
                    _ => {
                        begun = L::add(begun, L::add(ab, cd));
                        if column / LINE % 2 == 1 {
                            y = group.close(y, begun);
                            begun = L::zero_ints();
                        }
                    }
                }
                column += LINE;
            }
            // Part of a line is left where rows are not whole lines; it holds whole groups of one or two columns.
            while column < end {
                let mut sums = [L::zero_ints()];
                for _ in 0..COLUMNS {
                    let words = L::transpose(panel.packed.add(column * 16), panel.stride);
                    let x = x.add(column_offset::<FOUR>(column, 1));
                    dot::<L, FOUR, 1>(&mut sums, &unpack::<L, FOUR>(words), x);
                    column += 1;
                }
                y = group.close(y, sums[0]);
            }
        }
        target.write::<L>(0, y);
    }
}

/// The groups of a span as they are closed one after the other.
struct Sum<'a, L: Lanes> {
    parameters: &'a [[L::Floats; 2]; SPAN],
    scales: &'a [GroupScale],
    index: usize,
}

impl<L: Lanes> Sum<'_, L> {
    /// Adds the next group's sums to `y`.
    #[inline(always)]
    unsafe fn close(&mut self, y: L::Floats, sums: L::Ints) -> L::Floats {
        let GroupScale { step, sum } = self.scales[self.index];
        let parameters = self.parameters[self.index];
        self.index += 1;
        // SAFETY: as the caller vouches.
        unsafe { L::accumulate(y, sums, parameters, [step, sum]) }
    }
}

/// One panel times any number of activation rows: a stretch of weights is unpacked once for all of them.
#[inline(always)]
unsafe fn many<L: Lanes, const FOUR: bool>(
    panel: &Panel<'_>,
    tile: &Tile<'_>,
    target: &Target<'_>,
) {
    let per_group = panel.columns_per_group;
    let columns = panel.groups * per_group;
    // A line, unless a group is longer.
    let stretch = per_group.max(LINE);
    // SAFETY: every column of every row is within the panel's weights, and the tile has activations for each.
    unsafe {
        let mut y = [L::zero(); MAX_TILE_ROWS];
        let mut parameters = [[L::zero(); 2]; SPAN];
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
                if group.is_multiple_of(SPAN) {
                    parameters = panel.parameters::<L>(group);
                }
                let group = Group::<L> {
                    columns: &unpacked[column..][..per_group],
                    first_column: first + column,
                    parameters: parameters[group % SPAN],
                    scales: &tile.scales[group * tile.rows..][..tile.rows],
                };
                let mut row = 0;
                if L::TILE >= 8 {
                    row = group.multiply::<FOUR, 8>(tile, &mut y, row);
                }
                if L::TILE >= 4 {
                    row = group.multiply::<FOUR, 4>(tile, &mut y, row);
                }
                if L::TILE >= 2 {
                    row = group.multiply::<FOUR, 2>(tile, &mut y, row);
                }
                group.multiply::<FOUR, 1>(tile, &mut y, row);
            }
        }
        for (n, &y) in y[..tile.rows].iter().enumerate() {
            target.write::<L>(n, y);
        }
    }
}

/// One group of a panel, unpacked.
struct Group<'a, L: Lanes> {
    columns: &'a [L::Column],
    /// The number of the first column within the rows.
    first_column: usize,
    parameters: [L::Floats; 2],
    /// One a row of activations.
    scales: &'a [GroupScale],
}

impl<L: Lanes> Group<'_, L> {
    /// Multiplies with the activation rows from `row` on, as long as `N` are left; returns the next row.
    #[inline(always)]
    unsafe fn multiply<const FOUR: bool, const N: usize>(
        &self,
        tile: &Tile<'_>,
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
                let (y, scales) = (&mut y[row..][..N], &self.scales[row..][..N]);
                for n in 0..N {
                    let activations = [scales[n].step, scales[n].sum];
                    y[n] = L::accumulate(y[n], sums[n], self.parameters, activations);
                }
            }
            row += N;
        }
        row
    }
}
