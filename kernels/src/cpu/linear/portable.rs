//! The quantised products in plain Rust.

use super::lanes::{BLOCK, LINE, Lanes, ODD, PARTS};
use super::matrix::{Float, f16_to_f32};

/// Arrays for vectors; what the compiler makes of them is up to it.
#[derive(Clone, Copy)]
pub(super) struct Portable;

const ROWS: usize = 8;
/// A line of weights.
type ByteLine = [u8; 64];

impl Lanes for Portable {
    type PartInts = [i32; PARTS];
    type PartFloats = [f32; PARTS];
    /// One sum a column is enough.
    type Line = [i32; LINE];

    #[inline]
    unsafe fn line4<const N: usize>(w: *const u8, x: *const i8) -> [Self::Line; N] {
        // SAFETY: the caller vouches for a line of weights and N blocks of activations.
        let (w, x) = unsafe { (&*w.cast::<ByteLine>(), &*x.cast::<[[[i8; 64]; 2]; N]>()) };
        x.map(|[even, odd]| {
            let mut sums = [0; LINE];
            for k in 0..64 {
                let (low, high) = (i32::from(w[k] & 15), i32::from(w[k] >> 4));
                sums[k / 16] += low * i32::from(even[k]) + high * i32::from(odd[k]);
            }
            sums
        })
    }

    #[inline]
    unsafe fn line8<const N: usize>(w: *const u8, x: *const i8) -> [Self::Line; N] {
        // SAFETY: the caller vouches for a line of weights.
        let w = unsafe { &*w.cast::<ByteLine>() };
        std::array::from_fn(|n| {
            // SAFETY: and for half a block of activations in each of N rows.
            let x = unsafe { &*x.add(n * BLOCK).cast::<[i8; 64]>() };
            let mut sums = [0; LINE];
            for k in 0..64 {
                sums[k / 16] += i32::from(w[k]) * i32::from(x[k]);
            }
            sums
        })
    }

    #[inline]
    unsafe fn fold(a: Self::Line, b: Self::Line) -> Self::Line {
        [a[0] + a[1], a[2] + a[3], b[0] + b[1], b[2] + b[3]]
    }

    #[inline]
    unsafe fn add_up([a, b, c, d]: Self::Line, [e, f, g, h]: Self::Line) -> Self::PartInts {
        [a, b, c, d, e, f, g, h]
    }

    #[inline]
    unsafe fn zero_parts() -> Self::PartFloats {
        [0.0; PARTS]
    }

    #[inline]
    unsafe fn read_parts(float: Float, from: *const u8) -> Self::PartFloats {
        // SAFETY: the caller vouches for PARTS numbers.
        let bytes = unsafe { std::slice::from_raw_parts(from, PARTS * float.size()) };
        std::array::from_fn(|i| float.read(bytes, i))
    }

    #[inline]
    unsafe fn accumulate_parts(
        mut y: Self::PartFloats,
        sums: Self::PartInts,
        [scale, bias]: [Self::PartFloats; 2],
        steps: *const f32,
        totals: *const f32,
    ) -> Self::PartFloats {
        for i in 0..PARTS {
            // SAFETY: the caller vouches for a step and a total for every part.
            let (step, total) = unsafe { (*steps.add(i), *totals.add(i)) };
            y[i] = (sums[i] as f32).mul_add(scale[i] * step, y[i]);
            y[i] = bias[i].mul_add(total, y[i]);
        }
        y
    }

    #[inline]
    unsafe fn store_parts(y: Self::PartFloats) -> [f32; PARTS] {
        y
    }

    const ROWS: usize = ROWS;
    const TILE: usize = 1;
    type Words = [[u8; 4]; ROWS];
    /// Low and high nibbles, or eight-bit weights and nothing: `[16][ROWS]` each.
    type Column = [[[u8; ROWS]; 16]; 2];
    type Ints = [i32; ROWS];
    type Floats = [f32; ROWS];

    #[inline]
    unsafe fn transpose(first: *const u8, stride: usize) -> [Self::Words; 4] {
        let mut words = [[[0; 4]; ROWS]; 4];
        for row in 0..ROWS {
            for (i, word) in words.iter_mut().enumerate() {
                // SAFETY: the caller vouches for 16 bytes of each row.
                word[row] = unsafe { first.add(row * stride + 4 * i).cast::<[u8; 4]>().read() };
            }
        }
        words
    }

    #[inline]
    unsafe fn unpack4(words: [Self::Words; 4]) -> Self::Column {
        let mut column = [[[0; ROWS]; 16]; 2];
        for k in 0..16 {
            for row in 0..ROWS {
                let byte = words[k / 4][row][k % 4];
                column[0][k][row] = byte & 15;
                column[1][k][row] = byte >> 4;
            }
        }
        column
    }

    #[inline]
    unsafe fn unpack8(words: [Self::Words; 4]) -> Self::Column {
        let mut column = [[[0; ROWS]; 16]; 2];
        for k in 0..16 {
            for row in 0..ROWS {
                column[0][k][row] = words[k / 4][row][k % 4];
            }
        }
        column
    }

    #[inline]
    unsafe fn zero_ints() -> Self::Ints {
        [0; ROWS]
    }

    #[inline]
    unsafe fn dot4<const N: usize>(sums: &mut [Self::Ints; N], w: &Self::Column, x: *const i8) {
        for (n, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller vouches for both halves of each row.
            unsafe {
                add_products(sums, &w[0], x.add(n * BLOCK));
                add_products(sums, &w[1], x.add(n * BLOCK + ODD));
            }
        }
    }

    #[inline]
    unsafe fn dot8<const N: usize>(sums: &mut [Self::Ints; N], w: &Self::Column, x: *const i8) {
        for (n, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller vouches for 16 activations of each row.
            unsafe { add_products(sums, &w[0], x.add(n * BLOCK)) };
        }
    }

    #[inline]
    unsafe fn zero() -> Self::Floats {
        [0.0; ROWS]
    }

    #[inline]
    unsafe fn add(mut a: Self::Floats, b: Self::Floats) -> Self::Floats {
        for row in 0..ROWS {
            a[row] += b[row];
        }
        a
    }

    #[inline]
    unsafe fn f16(words: Self::Words) -> [Self::Floats; 2] {
        [
            words.map(|w| f16_to_f32(u16::from_le_bytes([w[0], w[1]]))),
            words.map(|w| f16_to_f32(u16::from_le_bytes([w[2], w[3]]))),
        ]
    }

    #[inline]
    unsafe fn bf16(words: Self::Words) -> [Self::Floats; 2] {
        [
            words.map(|w| f32::from_le_bytes([0, 0, w[0], w[1]])),
            words.map(|w| f32::from_le_bytes([0, 0, w[2], w[3]])),
        ]
    }

    #[inline]
    unsafe fn f32(words: Self::Words) -> Self::Floats {
        words.map(f32::from_le_bytes)
    }

    #[inline]
    unsafe fn accumulate(
        mut y: Self::Floats,
        sums: Self::Ints,
        [scale, bias]: [Self::Floats; 2],
        [step, sum]: [f32; 2],
    ) -> Self::Floats {
        for row in 0..ROWS {
            y[row] = (sums[row] as f32).mul_add(scale[row] * step, y[row]);
            y[row] = bias[row].mul_add(sum, y[row]);
        }
        y
    }

    #[inline]
    unsafe fn store(y: Self::Floats, to: *mut f32) {
        // SAFETY: the caller vouches for the room.
        unsafe { to.cast::<[f32; ROWS]>().write_unaligned(y) };
    }

    #[inline]
    fn prefetch_near(_at: *const u8) {}

    #[inline]
    fn prefetch(_at: *const u8) {}
}

/// Adds sixteen products to each row's sum.
///
/// # Safety
/// `x` must point to 16 activations.
#[inline]
unsafe fn add_products(sums: &mut [i32; ROWS], w: &[[u8; ROWS]; 16], x: *const i8) {
    for (k, w) in w.iter().enumerate() {
        // SAFETY: k < 16.
        let x = i32::from(unsafe { *x.add(k) });
        for row in 0..ROWS {
            sums[row] += i32::from(w[row]) * x;
        }
    }
}
