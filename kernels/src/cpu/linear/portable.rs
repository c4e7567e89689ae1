//! The quantised products in plain Rust.

use super::lanes::{BLOCK, Lanes, ODD};
use super::matrix::f16_to_f32;

/// Arrays for vectors; what the compiler makes of them is up to it.
#[derive(Clone, Copy)]
pub(super) struct Portable;

const ROWS: usize = 8;

impl Lanes for Portable {
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
    unsafe fn add(mut a: Self::Ints, b: Self::Ints) -> Self::Ints {
        for row in 0..ROWS {
            a[row] += b[row];
        }
        a
    }

    #[inline]
    unsafe fn zero() -> Self::Floats {
        [0.0; ROWS]
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
