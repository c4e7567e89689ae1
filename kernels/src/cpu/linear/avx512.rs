//! The quantised products with AVX-512 and its VNNI dot products: sixteen rows a panel.
//!
//! `dpbusd` multiplies four unsigned bytes with four signed ones and adds the products to 32 bits, without
//! saturating, so nibbles and eight-bit weights differ in their unpacking only.

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::lanes::{BLOCK, Lanes, ODD, PARTS};
use super::matrix::Float;

/// AVX-512 F, BW, DQ, VL and VNNI.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Lanes for Avx512 {
    type PartInts = __m256i;
    type PartFloats = __m256;
    /// A column a quarter.
    type Line = __m512i;

    #[inline(always)]
    unsafe fn line4<const N: usize>(w: *const u8, x: *const i8) -> [__m512i; N] {
        // SAFETY: the caller vouches for the features, the weights and the activations.
        unsafe {
            let w = _mm512_loadu_si512(w.cast());
            let (low, high) = (low_nibbles(w), low_nibbles(_mm512_srli_epi16(w, 4)));
            let mut sums = [_mm512_setzero_si512(); N];
            for n in 0..N {
                let x = x.add(n * BLOCK);
                sums[n] = _mm512_dpbusd_epi32(sums[n], low, _mm512_loadu_si512(x.cast()));
                let odd = _mm512_loadu_si512(x.add(ODD).cast());
                sums[n] = _mm512_dpbusd_epi32(sums[n], high, odd);
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn line8<const N: usize>(w: *const u8, x: *const i8) -> [__m512i; N] {
        // SAFETY: the caller vouches for the features, the weights and the activations.
        unsafe {
            let w = _mm512_loadu_si512(w.cast());
            let mut sums = [_mm512_setzero_si512(); N];
            for n in 0..N {
                let x = _mm512_loadu_si512(x.add(n * BLOCK).cast());
                sums[n] = _mm512_dpbusd_epi32(sums[n], w, x);
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn fold(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller vouches for the features.
        unsafe {
            _mm512_add_epi32(
                _mm512_shuffle_i32x4(a, b, 0b10_00_10_00),
                _mm512_shuffle_i32x4(a, b, 0b11_01_11_01),
            )
        }
    }

    #[inline(always)]
    unsafe fn add_up(a: __m512i, b: __m512i) -> __m256i {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let pairs = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let swapped = _mm512_shuffle_epi32(pairs, 0b01_00_11_10);
            // Quarter c begins with the sum of a's column c, then that of b's.
            let sums = _mm512_add_epi32(pairs, swapped);
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
            _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, sums))
        }
    }

    #[inline(always)]
    unsafe fn zero_parts() -> __m256 {
        // SAFETY: the caller vouches for the features.
        unsafe { Avx2::zero_parts() }
    }

    #[inline(always)]
    unsafe fn read_parts(float: Float, from: *const u8) -> __m256 {
        // SAFETY: the caller vouches for the features and for eight numbers.
        unsafe { Avx2::read_parts(float, from) }
    }

    #[inline(always)]
    unsafe fn accumulate_parts(
        y: __m256,
        sums: __m256i,
        weights: [__m256; 2],
        steps: *const f32,
        totals: *const f32,
    ) -> __m256 {
        // SAFETY: the caller vouches for the features and for eight steps and totals.
        unsafe { Avx2::accumulate_parts(y, sums, weights, steps, totals) }
    }

    #[inline(always)]
    unsafe fn store_parts(y: __m256) -> [f32; PARTS] {
        // SAFETY: the caller vouches for the features.
        unsafe { Avx2::store_parts(y) }
    }

    const ROWS: usize = 16;
    const TILE: usize = 8;
    type Words = __m512i;
    /// Low nibbles of four words, then their high nibbles; or four words of eight-bit weights, twice.
    type Column = [__m512i; 8];
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    unsafe fn transpose(first: *const u8, stride: usize) -> [__m512i; 4] {
        // SAFETY: the caller vouches for the features and for 16 bytes of each row.
        unsafe {
            let a = every_fourth(first, stride);
            let b = every_fourth(first.add(stride), stride);
            let c = every_fourth(first.add(2 * stride), stride);
            let d = every_fourth(first.add(3 * stride), stride);
            interleave(a, b, c, d)
        }
    }

    #[inline(always)]
    unsafe fn transpose_line(first: *const u8, stride: usize) -> [[__m512i; 4]; 4] {
        // SAFETY: the caller vouches for the features and for 64 bytes of each row.
        unsafe {
            // Each holds, for four rows, word i of every column: column c in quarter c.
            let [a0, a1, a2, a3] = four_rows(first, stride);
            let [b0, b1, b2, b3] = four_rows(first.add(4 * stride), stride);
            let [c0, c1, c2, c3] = four_rows(first.add(8 * stride), stride);
            let [d0, d1, d2, d3] = four_rows(first.add(12 * stride), stride);
            let [p0, q0, r0, s0] = gather_quarters(a0, b0, c0, d0);
            let [p1, q1, r1, s1] = gather_quarters(a1, b1, c1, d1);
            let [p2, q2, r2, s2] = gather_quarters(a2, b2, c2, d2);
            let [p3, q3, r3, s3] = gather_quarters(a3, b3, c3, d3);
            [
                [p0, p1, p2, p3],
                [q0, q1, q2, q3],
                [r0, r1, r2, r3],
                [s0, s1, s2, s3],
            ]
        }
    }

    #[inline(always)]
    unsafe fn unpack4(words: [__m512i; 4]) -> [__m512i; 8] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let [a, b, c, d] = words;
            [
                low_nibbles(a),
                low_nibbles(b),
                low_nibbles(c),
                low_nibbles(d),
                low_nibbles(_mm512_srli_epi16(a, 4)),
                low_nibbles(_mm512_srli_epi16(b, 4)),
                low_nibbles(_mm512_srli_epi16(c, 4)),
                low_nibbles(_mm512_srli_epi16(d, 4)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn unpack8([a, b, c, d]: [__m512i; 4]) -> [__m512i; 8] {
        [a, b, c, d, a, b, c, d]
    }

    #[inline(always)]
    unsafe fn zero_ints() -> __m512i {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn dot4<const N: usize>(sums: &mut [__m512i; N], w: &[__m512i; 8], x: *const i8) {
        // SAFETY: the caller vouches for the features and the activations.
        unsafe {
            if N > 2 {
                for i in 0..8 {
                    let x = x.add(i / 4 * ODD + i % 4 * 4);
                    for n in 0..N {
                        sums[n] = add_products(sums[n], w[i], x.add(n * BLOCK));
                    }
                }
                return;
            }
            // A sum can take up one product every four cycles and the machine can do four, so few sums need a
            // second chain.
            let (mut low, mut high) = (*sums, [_mm512_setzero_si512(); N]);
            for i in 0..4 {
                for n in 0..N {
                    let x = x.add(n * BLOCK + 4 * i);
                    low[n] = add_products(low[n], w[i], x);
                    high[n] = add_products(high[n], w[4 + i], x.add(ODD));
                }
            }
            for n in 0..N {
                sums[n] = _mm512_add_epi32(low[n], high[n]);
            }
        }
    }

    #[inline(always)]
    unsafe fn dot8<const N: usize>(sums: &mut [__m512i; N], w: &[__m512i; 8], x: *const i8) {
        // SAFETY: the caller vouches for the features and the activations.
        unsafe {
            for i in 0..4 {
                for n in 0..N {
                    sums[n] = add_products(sums[n], w[i], x.add(n * BLOCK + 4 * i));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn f16(words: __m512i) -> [__m512; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            [
                _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)),
                _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn bf16(words: __m512i) -> [__m512; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            [
                _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)),
                _mm512_castsi512_ps(_mm512_and_si512(words, upper)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn f32(words: __m512i) -> __m512 {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm512_castsi512_ps(words) }
    }

    #[inline(always)]
    unsafe fn accumulate(
        y: __m512,
        sums: __m512i,
        [scale, bias]: [__m512; 2],
        [step, sum]: [f32; 2],
    ) -> __m512 {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let scale = _mm512_mul_ps(scale, _mm512_set1_ps(step));
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, y);
            _mm512_fmadd_ps(bias, _mm512_set1_ps(sum), y)
        }
    }

    #[inline(always)]
    unsafe fn store(y: __m512, to: *mut f32) {
        // SAFETY: the caller vouches for the features and the room.
        unsafe { _mm512_storeu_ps(to, y) };
    }

    #[inline(always)]
    fn prefetch_near(at: *const u8) {
        // SAFETY: SSE is part of x86-64, and a prefetch cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: SSE is part of x86-64, and a prefetch cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
}

/// Adds the products of four bytes of each row with the four activations at `x`.
///
/// # Safety
/// AVX-512 VNNI must be available and `x` point to four activations.
#[inline(always)]
unsafe fn add_products(sums: __m512i, w: __m512i, x: *const i8) -> __m512i {
    // SAFETY: the caller vouches for both.
    unsafe {
        let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
        _mm512_dpbusd_epi32(sums, w, x)
    }
}

/// Sixteen bytes of the row at `first` and of the rows four, eight and twelve below it.
///
/// # Safety
/// AVX-512 F must be available and all four rows be valid for reading.
#[inline(always)]
unsafe fn every_fourth(first: *const u8, stride: usize) -> __m512i {
    // SAFETY: the caller vouches for both.
    unsafe {
        let rows = _mm512_castsi128_si512(_mm_loadu_si128(first.cast()));
        let row = _mm_loadu_si128(first.add(4 * stride).cast());
        let rows = _mm512_inserti32x4(rows, row, 1);
        let row = _mm_loadu_si128(first.add(8 * stride).cast());
        let rows = _mm512_inserti32x4(rows, row, 2);
        let row = _mm_loadu_si128(first.add(12 * stride).cast());
        _mm512_inserti32x4(rows, row, 3)
    }
}

/// The low nibble of each byte.
///
/// # Safety
/// AVX-512 F must be available.
#[inline(always)]
unsafe fn low_nibbles(bytes: __m512i) -> __m512i {
    // SAFETY: the caller vouches for the feature.
    unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
}

/// Transposes the four by four words in each quarter of four vectors.
///
/// # Safety
/// AVX-512 F must be available.
#[inline(always)]
unsafe fn interleave(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    // SAFETY: the caller vouches for the feature.
    unsafe {
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab2, cd2) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab2, cd2),
            _mm512_unpackhi_epi64(ab2, cd2),
        ]
    }
}

/// Sixty-four bytes of four consecutive rows, transposed within quarters.
///
/// # Safety
/// AVX-512 F must be available and the rows be valid for reading.
#[inline(always)]
unsafe fn four_rows(first: *const u8, stride: usize) -> [__m512i; 4] {
    // SAFETY: the caller vouches for both.
    unsafe {
        let a = _mm512_loadu_si512(first.cast());
        let b = _mm512_loadu_si512(first.add(stride).cast());
        let c = _mm512_loadu_si512(first.add(2 * stride).cast());
        let d = _mm512_loadu_si512(first.add(3 * stride).cast());
        interleave(a, b, c, d)
    }
}

/// Transposes the four by four quarters of four vectors.
///
/// # Safety
/// AVX-512 F must be available.
#[inline(always)]
unsafe fn gather_quarters(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    // SAFETY: the caller vouches for the feature.
    unsafe {
        let (ab, cd) = (
            _mm512_shuffle_i32x4(a, b, 0b01_00_01_00),
            _mm512_shuffle_i32x4(c, d, 0b01_00_01_00),
        );
        let (ab2, cd2) = (
            _mm512_shuffle_i32x4(a, b, 0b11_10_11_10),
            _mm512_shuffle_i32x4(c, d, 0b11_10_11_10),
        );
        [
            _mm512_shuffle_i32x4(ab, cd, 0b10_00_10_00),
            _mm512_shuffle_i32x4(ab, cd, 0b11_01_11_01),
            _mm512_shuffle_i32x4(ab2, cd2, 0b10_00_10_00),
            _mm512_shuffle_i32x4(ab2, cd2, 0b11_01_11_01),
        ]
    }
}
