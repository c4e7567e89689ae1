//! The quantised product proper: panels of weights times tiles of rounded activations.
//!
//! One output is `Σ_g scale_g · step_g · Σ_k q_k · a_k + bias_g · sum_g` over the groups `g` of a row: the inner
//! sums are integers and therefore exact in any order, the outer one runs over the groups in their order with two
//! fused multiply-adds each. Nothing in it depends on how many rows there are or on how they are cut up, so
//! neither does the result.

use std::borrow::Cow;
use std::ops::Range;

use super::activations::{GroupScale, Tile};
use super::disjoint::Disjoint;
use super::lanes::{BLOCK, Lanes, MAX_ROWS, Routine};
use super::matrix::{Affine, Bits, Float};

/// The most activation rows in a tile.
pub(super) const MAX_TILE_ROWS: usize = 128;

/// Up to this many activation rows a column is used as it is unpacked; for more it is kept.
const FEW: usize = 4;

/// Groups whose scales and biases are read at once.
const SPAN: usize = 8;

/// Multiplies `rows` of `matrix` with a tile of activations.
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

    /// # Safety
    /// See [`Routine`]; besides, no part of the outputs may be in use elsewhere.
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let weights = Weights::of(&self.matrix, L::ROWS);
        let mut row = self.rows.start;
        while row < self.rows.end {
            // The last panel of a matrix is moved back until it is whole; what it shares with the one before it
            // is computed again and not written.
            let first = row.min(weights.rows - L::ROWS);
            let end = self.rows.end.min(row + L::ROWS);
            let panel = Panel {
                weights: &weights,
                row: first,
            };
            let write = |n: usize, lanes: &[f32; MAX_ROWS]| {
                let at = (self.first + n) * self.matrix.rows;
                // SAFETY: rows row..end of output row n belong to this call, see above.
                let out = unsafe { self.out.slice(at + row..at + end) };
                out.copy_from_slice(&lanes[row - first..end - first]);
            };
            // SAFETY: as for `run`; the panel lies within the matrix.
            unsafe {
                match (self.matrix.bits, self.tile.rows) {
                    (Bits::Four, 1) => few::<L, true, 1>(&panel, &self.tile, write),
                    (Bits::Four, 2) => few::<L, true, 2>(&panel, &self.tile, write),
                    (Bits::Four, 3) => few::<L, true, 3>(&panel, &self.tile, write),
                    (Bits::Four, FEW) => few::<L, true, FEW>(&panel, &self.tile, write),
                    (Bits::Four, _) => many::<L, true>(&panel, &self.tile, write),
                    (Bits::Eight, 1) => few::<L, false, 1>(&panel, &self.tile, write),
                    (Bits::Eight, 2) => few::<L, false, 2>(&panel, &self.tile, write),
                    (Bits::Eight, 3) => few::<L, false, 3>(&panel, &self.tile, write),
                    (Bits::Eight, FEW) => few::<L, false, FEW>(&panel, &self.tile, write),
                    (Bits::Eight, _) => many::<L, false>(&panel, &self.tile, write),
                }
            }
            row += L::ROWS;
        }
    }
}

/// A matrix with at least as many rows as a panel.
struct Weights<'a> {
    rows: usize,
    /// Columns of 16 packed bytes in a group.
    columns: usize,
    groups: usize,
    float: Float,
    packed: Cow<'a, [u8]>,
    scales: Cow<'a, [u8]>,
    biases: Cow<'a, [u8]>,
}

impl<'a> Weights<'a> {
    /// The matrix itself, or a copy padded with zeros if it is smaller than a panel.
    #[inline(always)]
    fn of(matrix: &Affine<'a>, least: usize) -> Self {
        let rows = matrix.rows.max(least);
        let pad = |part: &'a [u8], row: usize| {
            if matrix.rows == rows {
                return Cow::Borrowed(part);
            }
            let mut padded = part.to_vec();
            padded.resize(rows * row, 0);
            Cow::Owned(padded)
        };
        let float_row = matrix.groups() * matrix.float.size();
        Self {
            rows,
            columns: matrix.packed_row() / matrix.groups() / 16,
            groups: matrix.groups(),
            float: matrix.float,
            packed: pad(matrix.packed, matrix.packed_row()),
            scales: pad(matrix.scales, float_row),
            biases: pad(matrix.biases, float_row),
        }
    }
}

/// Some consecutive rows of weights, as many as an instruction set has lanes.
struct Panel<'a> {
    weights: &'a Weights<'a>,
    row: usize,
}

impl Panel<'_> {
    /// Where the panel's packed weights begin, and the bytes from one row to the next.
    #[inline(always)]
    fn packed(&self) -> (*const u8, usize) {
        let stride = self.weights.groups * self.weights.columns * 16;
        (self.weights.packed[self.row * stride..].as_ptr(), stride)
    }

    /// Scales and biases of the groups from `group` on, at most [`SPAN`].
    #[inline(always)]
    unsafe fn parameters<L: Lanes>(&self, group: usize) -> [[L::Floats; 2]; SPAN] {
        // SAFETY: as the caller vouches.
        let (scales, biases) = unsafe {
            (
                self.span::<L>(&self.weights.scales, group),
                self.span::<L>(&self.weights.biases, group),
            )
        };
        std::array::from_fn(|g| [scales[g], biases[g]])
    }

    #[inline(always)]
    unsafe fn span<L: Lanes>(&self, part: &[u8], group: usize) -> [L::Floats; SPAN] {
        let float = self.weights.float;
        let stride = self.weights.groups * float.size();
        let first = &part[self.row * stride + group * float.size()..];
        if self.weights.groups - group >= SPAN {
            // SAFETY: each of the panel's rows has SPAN values left.
            return unsafe { read_span::<L>(float, first.as_ptr(), stride) };
        }
        let len = (self.weights.groups - group) * float.size();
        let mut padded = [0; MAX_ROWS * SPAN * 4];
        for (row, padded) in padded.chunks_exact_mut(SPAN * 4).take(L::ROWS).enumerate() {
            padded[..len].copy_from_slice(&first[row * stride..][..len]);
        }
        // SAFETY: the copy has MAX_ROWS rows of SPAN values of any type.
        unsafe { read_span::<L>(float, padded.as_ptr(), SPAN * 4) }
    }

    /// Asks for a part of the next panel, which lies behind this one without a gap: as much as one group of this
    /// one. The rows of a panel are too many streams for the hardware to see through.
    #[inline(always)]
    fn prefetch<L: Lanes>(&self, group: usize) {
        let bytes = L::ROWS * self.weights.columns * 16;
        let (packed, stride) = self.packed();
        let next = packed.wrapping_add(L::ROWS * stride + group * bytes);
        for line in (0..bytes).step_by(64) {
            L::prefetch(next.wrapping_add(line));
        }
    }
}

/// Reads [`SPAN`] values of each of a panel's rows.
///
/// # Safety
/// As for [`Lanes`]; `first` and the rows `stride` apart from it must hold that many.
#[inline(always)]
unsafe fn read_span<L: Lanes>(float: Float, first: *const u8, stride: usize) -> [L::Floats; SPAN] {
    // SAFETY: sixteen bytes are eight short or four long values.
    unsafe {
        match float {
            Float::F32 => {
                let [a, b, c, d] = L::transpose(first, stride).map(|w| L::f32(w));
                let [e, f, g, h] = L::transpose(first.add(16), stride).map(|w| L::f32(w));
                [a, b, c, d, e, f, g, h]
            }
            Float::F16 => {
                let [[a, b], [c, d], [e, f], [g, h]] =
                    L::transpose(first, stride).map(|w| L::f16(w));
                [a, b, c, d, e, f, g, h]
            }
            Float::Bf16 => {
                let [[a, b], [c, d], [e, f], [g, h]] =
                    L::transpose(first, stride).map(|w| L::bf16(w));
                [a, b, c, d, e, f, g, h]
            }
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
unsafe fn unpack<L: Lanes, const FOUR: bool>(at: *const u8, stride: usize) -> L::Column {
    // SAFETY: as the caller vouches.
    unsafe {
        let words = L::transpose(at, stride);
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

/// Adds one group's part to the outputs of `N` activation rows.
#[inline(always)]
unsafe fn accumulate<L: Lanes, const N: usize>(
    y: &mut [L::Floats],
    sums: [L::Ints; N],
    parameters: [L::Floats; 2],
    scales: &[GroupScale],
) {
    for n in 0..N {
        let activations = [scales[n].step, scales[n].sum];
        // SAFETY: as the caller vouches.
        y[n] = unsafe { L::accumulate(y[n], sums[n], parameters, activations) };
    }
}

/// One panel times exactly `N` activation rows.
#[inline(always)]
unsafe fn few<L: Lanes, const FOUR: bool, const N: usize>(
    panel: &Panel<'_>,
    tile: &Tile<'_>,
    write: impl Fn(usize, &[f32; MAX_ROWS]),
) {
    let (packed, stride) = panel.packed();
    let columns = panel.weights.columns;
    let x = tile.values.as_ptr();
    // SAFETY: every column of every row is within the panel's weights, and the tile has activations for each.
    unsafe {
        let mut y = [L::zero(); N];
        for span in (0..panel.weights.groups).step_by(SPAN) {
            let parameters = panel.parameters::<L>(span);
            for group in span..panel.weights.groups.min(span + SPAN) {
                panel.prefetch::<L>(group);
                let mut sums = [L::zero_ints(); N];
                for column in group * columns..(group + 1) * columns {
                    let w = unpack::<L, FOUR>(packed.add(column * 16), stride);
                    dot::<L, FOUR, N>(&mut sums, &w, x.add(column_offset::<FOUR>(column, N)));
                }
                let scales = &tile.scales[group * N..][..N];
                accumulate::<L, N>(&mut y, sums, parameters[group - span], scales);
            }
        }
        finish::<L>(&y, write);
    }
}

/// One panel times any number of activation rows: each group is unpacked once.
#[inline(always)]
unsafe fn many<L: Lanes, const FOUR: bool>(
    panel: &Panel<'_>,
    tile: &Tile<'_>,
    write: impl Fn(usize, &[f32; MAX_ROWS]),
) {
    let (packed, stride) = panel.packed();
    let columns = panel.weights.columns;
    // SAFETY: every column of every row is within the panel's weights, and the tile has activations for each.
    unsafe {
        let mut y = [L::zero(); MAX_TILE_ROWS];
        // The largest group is 128 bytes, or 8 columns, a row.
        let mut unpacked = [unpack::<L, FOUR>(packed, stride); 8];
        for span in (0..panel.weights.groups).step_by(SPAN) {
            let parameters = panel.parameters::<L>(span);
            for group in span..panel.weights.groups.min(span + SPAN) {
                panel.prefetch::<L>(group);
                for (i, unpacked) in unpacked[..columns].iter_mut().enumerate() {
                    *unpacked = unpack::<L, FOUR>(packed.add((group * columns + i) * 16), stride);
                }
                let group = Group::<L> {
                    columns: &unpacked[..columns],
                    first_column: group * columns,
                    parameters: parameters[group - span],
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
        finish::<L>(&y[..tile.rows], write);
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
        while row + N <= tile.rows {
            // SAFETY: the tile has activations for every column and rows row..row + N.
            unsafe {
                let x = tile.values.as_ptr().add(row * BLOCK);
                let mut sums = [L::zero_ints(); N];
                for (i, w) in self.columns.iter().enumerate() {
                    let offset = column_offset::<FOUR>(self.first_column + i, tile.rows);
                    dot::<L, FOUR, N>(&mut sums, w, x.add(offset));
                }
                let scales = &self.scales[row..][..N];
                accumulate::<L, N>(&mut y[row..][..N], sums, self.parameters, scales);
            }
            row += N;
        }
        row
    }
}

/// Hands out each row's outputs, one a lane.
#[inline(always)]
unsafe fn finish<L: Lanes>(y: &[L::Floats], write: impl Fn(usize, &[f32; MAX_ROWS])) {
    for (n, &y) in y.iter().enumerate() {
        let mut lanes = [0.0; MAX_ROWS];
        // SAFETY: MAX_ROWS is the most that an instruction set stores.
        unsafe { L::store(y, lanes.as_mut_ptr()) };
        write(n, &lanes);
    }
}
