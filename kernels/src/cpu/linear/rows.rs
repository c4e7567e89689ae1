//! The quantised product for a few rows of activations: as fast as memory can be read.
//!
//! Weights are multiplied in the order in which they lie, one row after the other, which is the pattern that
//! every memory system is best at. See [`super::panels`] for what is computed.

use std::ops::Range;

use super::activations::ActivationTile;
use super::disjoint::Disjoint;
use super::lanes::{BLOCK, LINE, Lanes, PARTS, Routine};
use super::matrix::{Affine, Bits};
use super::panels::add_pairwise;

/// How far ahead weights are asked for, in bytes: the hardware alone does not look past the multiplications far enough.
const AHEAD: usize = 8 << 10;

/// Multiplies `rows` of `matrix` with up to [`FEW`](super::activations::FEW) rows of activations.
///
/// The creator guarantees that nothing else uses the outputs that it writes.
pub(super) struct RowProducts<'a> {
    pub matrix: Affine<'a>,
    pub rows: Range<usize>,
    pub tile: ActivationTile<'a>,
    /// `[all activation rows, matrix.rows]`
    pub out: &'a Disjoint<'a, f32>,
    /// The tile's first row among all activation rows.
    pub first: usize,
}

impl Routine for RowProducts<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: as for `run`.
        unsafe {
            match self.tile.rows {
                1 => self.few::<L, 1>(),
                2 => self.few::<L, 2>(),
                3 => self.few::<L, 3>(),
                _ => self.few::<L, 4>(),
            }
        }
    }
}

impl RowProducts<'_> {
    #[inline(always)]
    unsafe fn few<L: Lanes, const N: usize>(&self) {
        // SAFETY: as the caller vouches; a group has as many columns as its size and bits say.
        unsafe {
            match (self.matrix.bits, self.matrix.columns_per_group()) {
                (Bits::Four, 1) => self.multiply::<L, true, 1, N>(),
                (Bits::Four, 2) => self.multiply::<L, true, 2, N>(),
                (Bits::Four, _) => self.multiply::<L, true, 4, N>(),
                (Bits::Eight, 2) => self.multiply::<L, false, 2, N>(),
                (Bits::Eight, 4) => self.multiply::<L, false, 4, N>(),
                (Bits::Eight, _) => self.multiply::<L, false, 8, N>(),
            }
        }
    }

    /// With `COLUMNS` columns a group and `N` activation rows.
    #[inline(always)]
    unsafe fn multiply<L: Lanes, const FOUR: bool, const COLUMNS: usize, const N: usize>(&self) {
        let Self {
            matrix, tile: x, ..
        } = self;
        let groups = matrix.groups();
        let size = matrix.float.size();
        for row in self.rows.clone() {
            let packed = &matrix.packed[row * matrix.packed_row()..][..matrix.packed_row()];
            let scales = &matrix.scales[row * groups * size..][..groups * size];
            let biases = &matrix.biases[row * groups * size..][..groups * size];
            // SAFETY: each span has PARTS groups of weights, copied to where there is room if the row has fewer
            // left; activations are padded to whole spans.
            unsafe {
                let mut y = [L::zero_parts(); N];
                for group in (0..groups).step_by(PARTS) {
                    let packed = &packed[group * COLUMNS * 16..];
                    let (scales, biases) = (&scales[group * size..], &biases[group * size..]);
                    let left = groups - group;
                    if left >= PARTS {
                        let span = [packed.as_ptr(), scales.as_ptr(), biases.as_ptr()];
                        span_products::<L, FOUR, COLUMNS, N>(&mut y, matrix, x, group, span);
                    } else {
                        let mut padded = [[0; PARTS * 128]; 3];
                        padded[0][..packed.len()].copy_from_slice(packed);
                        padded[1][..scales.len()].copy_from_slice(scales);
                        padded[2][..biases.len()].copy_from_slice(biases);
                        let span = [padded[0].as_ptr(), padded[1].as_ptr(), padded[2].as_ptr()];
                        span_products::<L, FOUR, COLUMNS, N>(&mut y, matrix, x, group, span);
                    }
                }
                for (n, &y) in y.iter().enumerate() {
                    let at = (self.first + n) * matrix.rows + row;
                    self.out.write(at, add_pairwise(L::store_parts(y)));
                }
            }
        }
    }
}

/// Adds to `y` the products of the [`PARTS`] groups from `group` on; `span` is where their weights, scales and
/// biases are.
#[inline(always)]
unsafe fn span_products<L: Lanes, const FOUR: bool, const COLUMNS: usize, const N: usize>(
    y: &mut [L::PartFloats; N],
    matrix: &Affine<'_>,
    x: &ActivationTile<'_>,
    group: usize,
    [packed, scales, biases]: [*const u8; 3],
) {
    let line = group * COLUMNS / LINE;
    // SAFETY: as the caller vouches.
    unsafe {
        for line in 0..2 * COLUMNS {
            L::prefetch(packed.wrapping_add(AHEAD + line * LINE * 16));
        }
        let values = x.values.as_ptr();
        let a = four_groups::<L, FOUR, COLUMNS, N>(packed, values, line);
        let packed = packed.add(COLUMNS * LINE * 16);
        let b = four_groups::<L, FOUR, COLUMNS, N>(packed, values, line + COLUMNS);
        let weights = [
            L::read_parts(matrix.float, scales),
            L::read_parts(matrix.float, biases),
        ];
        for n in 0..N {
            let sums = L::add_up(a[n], b[n]);
            let at = n * x.groups + group;
            let (steps, totals) = (x.steps.as_ptr().add(at), x.totals.as_ptr().add(at));
            y[n] = L::accumulate_parts(y[n], sums, weights, steps, totals);
        }
    }
}

/// The products of four groups, which fill `COLUMNS` lines, folded until each has one column.
#[inline(always)]
unsafe fn four_groups<L: Lanes, const FOUR: bool, const COLUMNS: usize, const N: usize>(
    packed: *const u8,
    x: *const i8,
    line: usize,
) -> [L::Line; N] {
    // SAFETY: as the caller vouches.
    unsafe {
        match COLUMNS {
            1 => one_line::<L, FOUR, N>(packed, x, line),
            2 => two_lines::<L, FOUR, N>(packed, x, line),
            4 => four_lines::<L, FOUR, N>(packed, x, line),
            _ => fold::<L, N>(
                four_lines::<L, FOUR, N>(packed, x, line),
                four_lines::<L, FOUR, N>(packed.add(4 * LINE * 16), x, line + 4),
            ),
        }
    }
}

/// Four lines, folded into one.
#[inline(always)]
unsafe fn four_lines<L: Lanes, const FOUR: bool, const N: usize>(
    packed: *const u8,
    x: *const i8,
    line: usize,
) -> [L::Line; N] {
    // SAFETY: as the caller vouches.
    unsafe {
        fold::<L, N>(
            two_lines::<L, FOUR, N>(packed, x, line),
            two_lines::<L, FOUR, N>(packed.add(2 * LINE * 16), x, line + 2),
        )
    }
}

/// Two lines, folded into one.
#[inline(always)]
unsafe fn two_lines<L: Lanes, const FOUR: bool, const N: usize>(
    packed: *const u8,
    x: *const i8,
    line: usize,
) -> [L::Line; N] {
    // SAFETY: as the caller vouches.
    unsafe {
        fold::<L, N>(
            one_line::<L, FOUR, N>(packed, x, line),
            one_line::<L, FOUR, N>(packed.add(LINE * 16), x, line + 1),
        )
    }
}

#[inline(always)]
unsafe fn one_line<L: Lanes, const FOUR: bool, const N: usize>(
    packed: *const u8,
    x: *const i8,
    line: usize,
) -> [L::Line; N] {
    // SAFETY: as the caller vouches.
    unsafe {
        if FOUR {
            L::line4::<N>(packed, x.add(line * N * BLOCK))
        } else {
            L::line8::<N>(packed, x.add(line / 2 * N * BLOCK + line % 2 * BLOCK / 2))
        }
    }
}

#[inline(always)]
unsafe fn fold<L: Lanes, const N: usize>(mut a: [L::Line; N], b: [L::Line; N]) -> [L::Line; N] {
    for n in 0..N {
        // SAFETY: as the caller vouches.
        a[n] = unsafe { L::fold(a[n], b[n]) };
    }
    a
}
