//! The words in AVX2 (two registers to a vector) and AVX-512 (one).

use std::arch::x86_64::*;

use half::f16;

use super::vector::{Kernel, LANES, Simd};

/// Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Proof of AVX-512 F, BW, DQ and VL, and of what [`Avx2`] proves.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// # Safety
/// The processor must have the features named.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// # Safety
/// The processor must have the features named.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// Intrinsics inside a method of a token, reading and writing nothing but what its references cover.
macro_rules! vouched {
    ($($code:tt)*) => {
        // SAFETY: `self` was made by `run_avx2` or `run_avx512`, whose callers have asked the processor for
        // these instructions; loads and stores go through references to exactly as many bytes.
        unsafe { $($code)* }
    };
}

/// Lane `i` with `i + 4`, `i + 2`, `i + 1`, by the four-lane instruction `$op`.
macro_rules! fold8 {
    ($v:expr, $op:ident) => {
        vouched! {
            let v = $v;
            let v = $op(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = $op(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32($op(v, _mm_movehdup_ps(v)))
        }
    };
}

/// Two vectors' lanes `i` with `i + 4`: the first's in the low half, the second's in the high one.
#[inline(always)]
fn four_each(_: Avx2, a: __m256, b: __m256) -> __m256 {
    vouched! {
        _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
    }
}

/// In each half: `(x0 + x2, y0 + y2, x1 + x3, y1 + y3)`.
#[inline(always)]
fn two_each(_: Avx2, x: __m256, y: __m256) -> __m256 {
    vouched!(_mm256_add_ps(
        _mm256_unpacklo_ps(x, y),
        _mm256_unpackhi_ps(x, y)
    ))
}

/// The eight-lane sums of eight vectors by the same tree, transposed on the way.
#[inline(always)]
fn sums8(s: Avx2, v: [__m256; 8]) -> [f32; 8] {
    let ab = two_each(s, four_each(s, v[0], v[4]), four_each(s, v[1], v[5]));
    let cd = two_each(s, four_each(s, v[2], v[6]), four_each(s, v[3], v[7]));
    vouched! {
        let all = _mm256_add_ps(
            _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
        );
        let mut sums = [0.0; 8];
        _mm256_storeu_ps(sums.as_mut_ptr(), all);
        sums
    }
}

impl Simd for Avx2 {
    type V = [__m256; 2];
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        vouched!([_mm256_set1_ps(x); 2])
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        vouched!([
            _mm256_loadu_ps(x.as_ptr()),
            _mm256_loadu_ps(x.as_ptr().add(8))
        ])
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        vouched! {
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
        }
    }

    #[inline(always)]
    fn load_half(self, x: &[f16; LANES]) -> Self::V {
        vouched! {
            let x = x.as_ptr().cast::<__m128i>();
            [_mm256_cvtph_ps(_mm_loadu_si128(x)), _mm256_cvtph_ps(_mm_loadu_si128(x.add(1)))]
        }
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8; LANES]) -> Self::V {
        vouched! {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            let high = _mm_unpackhi_epi64(x, x);
            [_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high))]
        }
    }

    #[inline(always)]
    fn store_half(self, v: Self::V, to: &mut [f16; LANES]) {
        vouched! {
            let to = to.as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(to, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(to.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        vouched!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        vouched!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        vouched!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        vouched!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        vouched!([
            _mm256_fmadd_ps(a[0], b[0], c[0]),
            _mm256_fmadd_ps(a[1], b[1], c[1])
        ])
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        vouched!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        vouched!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }

    #[inline(always)]
    fn where_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        vouched!([
            _mm256_blendv_ps(no[0], yes[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
            _mm256_blendv_ps(no[1], yes[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])),
        ])
    }

    #[inline(always)]
    fn exp2_biased(self, x: Self::V) -> Self::V {
        vouched!([
            _mm256_castsi256_ps(_mm256_add_epi32(
                _mm256_slli_epi32::<23>(_mm256_castps_si256(x[0])),
                _mm256_castps_si256(_mm256_set1_ps(1.0)),
            )),
            _mm256_castsi256_ps(_mm256_add_epi32(
                _mm256_slli_epi32::<23>(_mm256_castps_si256(x[1])),
                _mm256_castps_si256(_mm256_set1_ps(1.0)),
            )),
        ])
    }

    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        fold8!(_mm256_add_ps(v[0], v[1]), _mm_add_ps)
    }

    #[inline(always)]
    fn sums(self, v: [Self::V; 8]) -> [f32; 8] {
        vouched! {
            let mut folded = [_mm256_setzero_ps(); 8];
            for (folded, v) in folded.iter_mut().zip(v) {
                *folded = _mm256_add_ps(v[0], v[1]);
            }
            sums8(self, folded)
        }
    }

    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        fold8!(_mm256_max_ps(v[0], v[1]), _mm_max_ps)
    }
}

impl Avx512 {
    #[inline(always)]
    fn halves(self, v: __m512) -> [__m256; 2] {
        vouched!([_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)])
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        vouched!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        vouched!(_mm512_loadu_ps(x.as_ptr()))
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32; LANES]) {
        vouched!(_mm512_storeu_ps(to.as_mut_ptr(), v));
    }

    #[inline(always)]
    fn load_half(self, x: &[f16; LANES]) -> __m512 {
        vouched!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8; LANES]) -> __m512 {
        vouched!(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(
            x.as_ptr().cast()
        ))))
    }

    #[inline(always)]
    fn store_half(self, v: __m512, to: &mut [f16; LANES]) {
        vouched! {
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), half);
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        vouched!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        vouched!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        vouched!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        vouched!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        vouched!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        vouched!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        vouched!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn where_less(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        vouched!(_mm512_mask_blend_ps(
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b),
            no,
            yes
        ))
    }

    #[inline(always)]
    fn exp2_biased(self, x: __m512) -> __m512 {
        vouched!(_mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_slli_epi32::<23>(_mm512_castps_si512(x)),
            _mm512_castps_si512(_mm512_set1_ps(1.0)),
        )))
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        Avx2(()).sum(self.halves(v))
    }

    #[inline(always)]
    fn sums(self, v: [__m512; 8]) -> [f32; 8] {
        let mut halves = [self.halves(v[0]); 8];
        for (halves, v) in halves.iter_mut().zip(v) {
            *halves = self.halves(v);
        }
        Avx2(()).sums(halves)
    }

    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        Avx2(()).max_lane(self.halves(v))
    }
}
