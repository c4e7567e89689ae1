//! The quantised products with AVX2: eight rows a panel.
//!
//! `maddubs` multiplies unsigned bytes with signed ones and adds neighbours into 16 bits, saturating. Nibbles leave
//! room for eight such pairs (8 · 2 · 15 · 127 = 30480), which is one column; eight-bit weights do not leave room for
//! one, so they are multiplied as two nibbles.

use std::arch::x86_64::*;

use super::lanes::{BLOCK, Lanes, ODD, PARTS};
use super::matrix::Float;

/// AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

impl Lanes for Avx2 {
    type PartInts = __m256i;
    type PartFloats = __m256;
    /// Two columns each.
    type Line = [__m256i; 2];

    #[inline(always)]
    unsafe fn line4<const N: usize>(w: *const u8, x: *const i8) -> [[__m256i; 2]; N] {
        // SAFETY: the caller vouches for the features, the weights and the activations.
        unsafe {
            let one = _mm256_set1_epi16(1);
            let mut sums = [[_mm256_setzero_si256(); 2]; N];
            for half in 0..2 {
                let w = _mm256_loadu_si256(w.add(32 * half).cast());
                let (low, high) = (low_nibbles(w), low_nibbles(_mm256_srli_epi16(w, 4)));
                for n in 0..N {
                    let x = x.add(n * BLOCK + 32 * half);
                    let even = _mm256_maddubs_epi16(low, _mm256_loadu_si256(x.cast()));
                    let odd = _mm256_maddubs_epi16(high, _mm256_loadu_si256(x.add(ODD).cast()));
                    sums[n][half] = _mm256_madd_epi16(_mm256_add_epi16(even, odd), one);
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn line8<const N: usize>(w: *const u8, x: *const i8) -> [[__m256i; 2]; N] {
        // SAFETY: the caller vouches for the features, the weights and the activations.
        unsafe {
            let (one, sixteen) = (_mm256_set1_epi16(1), _mm256_set1_epi16(16));
            let mut sums = [[_mm256_setzero_si256(); 2]; N];
            for half in 0..2 {
                let w = _mm256_loadu_si256(w.add(32 * half).cast());
                let (low, high) = (low_nibbles(w), low_nibbles(_mm256_srli_epi16(w, 4)));
                for n in 0..N {
                    let x = _mm256_loadu_si256(x.add(n * BLOCK + 32 * half).cast());
                    let low = _mm256_madd_epi16(_mm256_maddubs_epi16(low, x), one);
                    let high = _mm256_madd_epi16(_mm256_maddubs_epi16(high, x), sixteen);
                    sums[n][half] = _mm256_add_epi32(low, high);
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn fold(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            [
                _mm256_add_epi32(
                    _mm256_permute2x128_si256(a[0], a[1], 0x20),
                    _mm256_permute2x128_si256(a[0], a[1], 0x31),
                ),
                _mm256_add_epi32(
                    _mm256_permute2x128_si256(b[0], b[1], 0x20),
                    _mm256_permute2x128_si256(b[0], b[1], 0x31),
                ),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add_up([a, b]: [__m256i; 2], [c, d]: [__m256i; 2]) -> __m256i {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            // The first columns of a, b, c and d, then their second ones.
            let sums =
                _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
            _mm256_permutevar8x32_epi32(sums, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
        }
    }

    #[inline(always)]
    unsafe fn zero_parts() -> __m256 {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn read_parts(float: Float, from: *const u8) -> __m256 {
        // SAFETY: the caller vouches for the features and for eight numbers.
        unsafe {
            match float {
                Float::F32 => _mm256_loadu_ps(from.cast()),
                Float::F16 => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                Float::Bf16 => {
                    let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32(words, 16))
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn accumulate_parts(
        y: __m256,
        sums: __m256i,
        [scale, bias]: [__m256; 2],
        steps: *const f32,
        totals: *const f32,
    ) -> __m256 {
        // SAFETY: the caller vouches for the features and for eight steps and totals.
        unsafe {
            let scale = _mm256_mul_ps(scale, _mm256_loadu_ps(steps));
            let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, y);
            _mm256_fmadd_ps(bias, _mm256_loadu_ps(totals), y)
        }
    }

    #[inline(always)]
    unsafe fn store_parts(y: __m256) -> [f32; PARTS] {
        let mut parts = [0.0; PARTS];
        // SAFETY: the caller vouches for the features; eight parts fit.
        unsafe { _mm256_storeu_ps(parts.as_mut_ptr(), y) };
        parts
    }

    const ROWS: usize = 8;
    const TILE: usize = 4;
    type Words = __m256i;
    /// Low nibbles of four words, then their high nibbles.
    type Column = [__m256i; 8];
    type Ints = __m256i;
    type Floats = __m256;

    #[inline(always)]
    unsafe fn transpose(first: *const u8, stride: usize) -> [__m256i; 4] {
        // SAFETY: the caller vouches for the features and for 16 bytes of each row.
        unsafe {
            let a = every_fourth(first, stride);
            let b = every_fourth(first.add(stride), stride);
            let c = every_fourth(first.add(2 * stride), stride);
            let d = every_fourth(first.add(3 * stride), stride);
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ab2, cd2) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab2, cd2),
                _mm256_unpackhi_epi64(ab2, cd2),
            ]
        }
    }

    #[inline(always)]
    unsafe fn unpack4(words: [__m256i; 4]) -> [__m256i; 8] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let [a, b, c, d] = words;
            [
                low_nibbles(a),
                low_nibbles(b),
                low_nibbles(c),
                low_nibbles(d),
                low_nibbles(_mm256_srli_epi16(a, 4)),
                low_nibbles(_mm256_srli_epi16(b, 4)),
                low_nibbles(_mm256_srli_epi16(c, 4)),
                low_nibbles(_mm256_srli_epi16(d, 4)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn unpack8(words: [__m256i; 4]) -> [__m256i; 8] {
        // SAFETY: as for the caller.
        unsafe { Self::unpack4(words) }
    }

    #[inline(always)]
    unsafe fn zero_ints() -> __m256i {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn dot4<const N: usize>(sums: &mut [__m256i; N], w: &[__m256i; 8], x: *const i8) {
        // SAFETY: the caller vouches for the features and the activations.
        unsafe {
            let mut pairs = [_mm256_setzero_si256(); N];
            for i in 0..4 {
                for n in 0..N {
                    let x = x.add(n * BLOCK + 4 * i);
                    pairs[n] = add_products(pairs[n], w[i], x);
                    pairs[n] = add_products(pairs[n], w[4 + i], x.add(ODD));
                }
            }
            let one = _mm256_set1_epi16(1);
            for n in 0..N {
                sums[n] = _mm256_add_epi32(sums[n], _mm256_madd_epi16(pairs[n], one));
            }
        }
    }

    #[inline(always)]
    unsafe fn dot8<const N: usize>(sums: &mut [__m256i; N], w: &[__m256i; 8], x: *const i8) {
        // SAFETY: the caller vouches for the features and the activations.
        unsafe {
            for (half, unit) in [(0, 1), (4, 16)] {
                let mut pairs = [_mm256_setzero_si256(); N];
                for i in 0..4 {
                    for n in 0..N {
                        let x = x.add(n * BLOCK + 4 * i);
                        pairs[n] = add_products(pairs[n], w[half + i], x);
                    }
                }
                let unit = _mm256_set1_epi16(unit);
                for n in 0..N {
                    sums[n] = _mm256_add_epi32(sums[n], _mm256_madd_epi16(pairs[n], unit));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn f16(words: __m256i) -> [__m256; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let low = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
            let high = _mm256_srli_epi32(words, 16);
            let halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0b11_01_10_00);
            [
                _mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn bf16(words: __m256i) -> [__m256; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            [
                _mm256_castsi256_ps(_mm256_slli_epi32(words, 16)),
                _mm256_castsi256_ps(_mm256_and_si256(words, upper)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn f32(words: __m256i) -> __m256 {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm256_castsi256_ps(words) }
    }

    #[inline(always)]
    unsafe fn accumulate(
        y: __m256,
        sums: __m256i,
        [scale, bias]: [__m256; 2],
        [step, sum]: [f32; 2],
    ) -> __m256 {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(step));
            let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, y);
            _mm256_fmadd_ps(bias, _mm256_set1_ps(sum), y)
        }
    }

    #[inline(always)]
    unsafe fn store(y: __m256, to: *mut f32) {
        // SAFETY: the caller vouches for the features and the room.
        unsafe { _mm256_storeu_ps(to, y) };
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

/// Adds the products of four bytes of each row with the four activations at `x` to pairs of 16-bit sums.
///
/// # Safety
/// AVX2 must be available and `x` point to four activations.
#[inline(always)]
unsafe fn add_products(pairs: __m256i, w: __m256i, x: *const i8) -> __m256i {
    // SAFETY: the caller vouches for both.
    unsafe {
        let x = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
        _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w, x))
    }
}

/// Sixteen bytes of the row at `first` and of the row four below it.
///
/// # Safety
/// AVX2 must be available and both rows be valid for reading.
#[inline(always)]
unsafe fn every_fourth(first: *const u8, stride: usize) -> __m256i {
    // SAFETY: the caller vouches for both.
    unsafe {
        let low = _mm_loadu_si128(first.cast());
        let high = _mm_loadu_si128(first.add(4 * stride).cast());
        _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)
    }
}

/// The low nibble of each byte.
///
/// # Safety
/// AVX2 must be available.
#[inline(always)]
unsafe fn low_nibbles(bytes: __m256i) -> __m256i {
    // SAFETY: the caller vouches for the feature.
    unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(15)) }
}
