//! What an instruction set has to offer to the quantised products.
//!
//! Packed weights are read by the *column*, sixteen bytes of a row, and the *line*, four columns. There are two ways
//! to lay products out in vectors. Where weights are used once, a line of one row is multiplied as it comes and its
//! sums are added up among themselves. Where they are used often, the rows of a *panel* become lanes: a column of
//! [`Lanes::ROWS`] rows is transposed in registers and multiplied with any number of activation rows, and no sum
//! ever crosses lanes.

use super::matrix::Float;

/// The most rows that a panel has on any instruction set; a multiple of every [`Lanes::ROWS`].
pub(super) const MAX_ROWS: usize = 16;

/// Columns in a line: 64 packed bytes of a row.
pub(super) const LINE: usize = 4;

/// Parts that the sum over groups is made of; also the groups whose scales and biases are read at once.
pub(super) const PARTS: usize = 8;

/// Distance in bytes between two activation rows of a block; see [`super::activations`].
pub(super) const BLOCK: usize = 128;

/// Distance in bytes from four activations of even index to those of odd index beside them.
pub(super) const ODD: usize = BLOCK / 2;

/// The vector operations that the quantised products are written in.
///
/// # Safety
/// All functions are `unsafe` for the same two reasons: the instruction set must be available, and pointers must
/// be valid for what is read or written through them, at any alignment.
pub(super) trait Lanes: Copy {
    /// A 32-bit integer for every part.
    type PartInts: Copy;
    /// A single-precision number for every part.
    type PartFloats: Copy;
    /// Four 32-bit sums for each column of a line.
    type Line: Copy;

    /// The products of a line of four-bit weights with the blocks of `N` activation rows from `x` on.
    unsafe fn line4<const N: usize>(w: *const u8, x: *const i8) -> [Self::Line; N];
    /// The products of a line of eight-bit weights with half the blocks of `N` activation rows from `x` on.
    unsafe fn line8<const N: usize>(w: *const u8, x: *const i8) -> [Self::Line; N];
    /// Adds neighbouring columns: two of `a`, then two of `b`.
    unsafe fn fold(a: Self::Line, b: Self::Line) -> Self::Line;
    /// Adds up each column's sums: four of `a`, then four of `b`.
    unsafe fn add_up(a: Self::Line, b: Self::Line) -> Self::PartInts;

    unsafe fn zero_parts() -> Self::PartFloats;
    /// Reads a number for every part.
    unsafe fn read_parts(float: Float, from: *const u8) -> Self::PartFloats;
    /// `(y + sums · (scale · step)) + bias · sum`, each bracket rounded once, where `step` and `sum` are what
    /// `steps` and `totals` point to.
    unsafe fn accumulate_parts(
        y: Self::PartFloats,
        sums: Self::PartInts,
        weights: [Self::PartFloats; 2],
        steps: *const f32,
        totals: *const f32,
    ) -> Self::PartFloats;
    unsafe fn store_parts(y: Self::PartFloats) -> [f32; PARTS];

    /// Weight rows in a panel: 4, 8 or 16.
    const ROWS: usize;
    /// Activation rows that are multiplied with a column at a time, at most 8.
    const TILE: usize;
    /// Four bytes of every row.
    type Words: Copy;
    /// A column made ready for `dot4` or `dot8`.
    type Column: Copy;
    /// A 32-bit integer for every row.
    type Ints: Copy;
    /// A single-precision number for every row.
    type Floats: Copy;

    /// Reads 16 bytes of each row; element `i` of the result holds bytes `4i..4i + 4` of every row.
    unsafe fn transpose(first: *const u8, stride: usize) -> [Self::Words; 4];
    /// Reads 64 bytes of each row: four times `transpose`.
    #[inline(always)]
    unsafe fn transpose_line(first: *const u8, stride: usize) -> [[Self::Words; 4]; LINE] {
        // SAFETY: as the caller vouches.
        unsafe {
            [
                Self::transpose(first, stride),
                Self::transpose(first.add(16), stride),
                Self::transpose(first.add(32), stride),
                Self::transpose(first.add(48), stride),
            ]
        }
    }
    /// Makes a column of 32 four-bit weights a row.
    unsafe fn unpack4(words: [Self::Words; 4]) -> Self::Column;
    /// Makes a column of 16 eight-bit weights a row.
    unsafe fn unpack8(words: [Self::Words; 4]) -> Self::Column;

    unsafe fn zero_ints() -> Self::Ints;
    /// Adds to `sums[n]` the products of a four-bit column with the activations of row `n`, which are `BLOCK`
    /// apart: sixteen of even index at `x`, sixteen of odd index `ODD` further.
    unsafe fn dot4<const N: usize>(sums: &mut [Self::Ints; N], w: &Self::Column, x: *const i8);
    /// Adds to `sums[n]` the products of an eight-bit column with the activations of row `n`: sixteen at `x`.
    unsafe fn dot8<const N: usize>(sums: &mut [Self::Ints; N], w: &Self::Column, x: *const i8);

    unsafe fn zero() -> Self::Floats;
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The lower and the upper half of each word as numbers in half precision.
    unsafe fn f16(words: Self::Words) -> [Self::Floats; 2];
    /// The lower and the upper half of each word as upper halves of singles.
    unsafe fn bf16(words: Self::Words) -> [Self::Floats; 2];
    unsafe fn f32(words: Self::Words) -> Self::Floats;
    /// `(y + sums · (scale · step)) + bias · sum`, each bracket rounded once.
    unsafe fn accumulate(
        y: Self::Floats,
        sums: Self::Ints,
        weights: [Self::Floats; 2],
        activations: [f32; 2],
    ) -> Self::Floats;
    /// Writes one number a row.
    unsafe fn store(y: Self::Floats, to: *mut f32);

    /// Asks for the cache line at `at`, which need not be a valid address, to be brought to the first-level cache.
    fn prefetch_near(at: *const u8);
    /// The same for the second-level cache, which has room for weights that are not needed at once.
    fn prefetch(at: *const u8);
}

/// Something that is compiled once for every instruction set.
///
/// `run` and all it calls must be `#[inline(always)]`, or it is compiled for the least common denominator.
pub(super) trait Routine {
    type Output;
    /// # Safety
    /// `L` must be an instruction set that this machine has.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}
