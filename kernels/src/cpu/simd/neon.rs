//! The words in NEON, four registers to a vector.

// Many intrinsics are safe to call where the target has NEON to begin with.
#![allow(unused_unsafe)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::vector::{Kernel, LANES, Simd};

/// Proof of NEON.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

/// # Safety
/// The processor must have NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon(()))
}

/// Intrinsics inside a method of the token, reading and writing nothing but what its references cover.
macro_rules! vouched {
    ($($code:tt)*) => {
        // SAFETY: `self` was made by `run`, whose caller has asked the processor for NEON; loads and stores go
        // through references to exactly as many bytes.
        unsafe { $($code)* }
    };
}

/// The same instruction on each quarter.
macro_rules! quarters {
    ($op:ident($($arg:ident),+)) => {
        vouched!([$op($($arg[0]),+), $op($($arg[1]),+), $op($($arg[2]),+), $op($($arg[3]),+)])
    };
}

type V = [float32x4_t; 4];

/// Lane `i` with `i + 8`, then `i + 4`, by the instruction `$op`.
macro_rules! fold16 {
    ($v:expr, $op:ident) => {
        vouched! {
            let v: V = $v;
            $op($op(v[0], v[2]), $op(v[1], v[3]))
        }
    };
}

impl Neon {
    /// Sixteen bits to thirty-two. The conversion belongs to every Armv8 NEON, but its intrinsic wants a type that
    /// not every supported compiler has.
    #[inline(always)]
    fn widen(self, half: &[f16; 4]) -> float32x4_t {
        vouched! {
            let half: uint16x4_t = vld1_u16(half.as_ptr().cast());
            let wide: float32x4_t;
            asm!("fcvtl {wide:v}.4s, {half:v}.4h", half = in(vreg) half, wide = lateout(vreg) wide,
                options(pure, nomem, nostack, preserves_flags));
            wide
        }
    }

    /// Thirty-two bits to sixteen.
    #[inline(always)]
    fn narrow(self, wide: float32x4_t, to: &mut [f16; 4]) {
        vouched! {
            let half: uint16x4_t;
            asm!("fcvtn {half:v}.4h, {wide:v}.4s", half = lateout(vreg) half, wide = in(vreg) wide,
                options(pure, nomem, nostack, preserves_flags));
            vst1_u16(to.as_mut_ptr().cast(), half);
        }
    }

    /// The four-lane sums of four vectors, transposed on the way.
    #[inline(always)]
    fn sums4(self, [a, b, c, d]: V) -> [f32; 4] {
        vouched! {
            // (x0 + x2, y0 + y2, x1 + x3, y1 + y3)
            let ab = vaddq_f32(vzip1q_f32(a, b), vzip2q_f32(a, b));
            let cd = vaddq_f32(vzip1q_f32(c, d), vzip2q_f32(c, d));
            let low = vcombine_f32(vget_low_f32(ab), vget_low_f32(cd));
            let high = vcombine_f32(vget_high_f32(ab), vget_high_f32(cd));
            let mut sums = [0.0; 4];
            vst1q_f32(sums.as_mut_ptr(), vaddq_f32(low, high));
            sums
        }
    }
}

impl Simd for Neon {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        vouched!([vdupq_n_f32(x); 4])
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> V {
        vouched! {
            let x = x.as_ptr();
            [vld1q_f32(x), vld1q_f32(x.add(4)), vld1q_f32(x.add(8)), vld1q_f32(x.add(12))]
        }
    }

    #[inline(always)]
    fn store(self, v: V, to: &mut [f32; LANES]) {
        vouched! {
            let to = to.as_mut_ptr();
            vst1q_f32(to, v[0]);
            vst1q_f32(to.add(4), v[1]);
            vst1q_f32(to.add(8), v[2]);
            vst1q_f32(to.add(12), v[3]);
        }
    }

    #[inline(always)]
    fn load_half(self, x: &[f16; LANES]) -> V {
        let x = x.as_chunks::<4>().0;
        [
            self.widen(&x[0]),
            self.widen(&x[1]),
            self.widen(&x[2]),
            self.widen(&x[3]),
        ]
    }

    #[inline(always)]
    fn store_half(self, v: V, to: &mut [f16; LANES]) {
        for (quarter, to) in v.into_iter().zip(to.as_chunks_mut::<4>().0) {
            self.narrow(quarter, to);
        }
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        quarters!(vaddq_f32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        quarters!(vsubq_f32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        quarters!(vmulq_f32(a, b))
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        quarters!(vdivq_f32(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        quarters!(vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        quarters!(vmaxnmq_f32(a, b))
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        quarters!(vminnmq_f32(a, b))
    }

    #[inline(always)]
    fn where_less(self, a: V, b: V, yes: V, no: V) -> V {
        let less: [uint32x4_t; 4] = quarters!(vcltq_f32(a, b));
        quarters!(vbslq_f32(less, yes, no))
    }

    #[inline(always)]
    fn exp2_biased(self, x: V) -> V {
        vouched! {
            let one = vreinterpretq_s32_f32(vdupq_n_f32(1.0));
            let mut power = x;
            for x in &mut power {
                let n = vshlq_n_s32::<23>(vreinterpretq_s32_f32(*x));
                *x = vreinterpretq_f32_s32(vaddq_s32(n, one));
            }
            power
        }
    }

    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        let v = fold16!(v, vaddq_f32);
        vouched! {
            let v = vadd_f32(vget_low_f32(v), vget_high_f32(v));
            vget_lane_f32::<0>(v) + vget_lane_f32::<1>(v)
        }
    }

    #[inline(always)]
    fn sums(self, v: [V; 8]) -> [f32; 8] {
        let mut folded = [v[0], v[1]];
        for (folded, v) in folded.as_flattened_mut().iter_mut().zip(v) {
            *folded = fold16!(v, vaddq_f32);
        }
        let ([a, b, c, d], [e, f, g, h]) = (self.sums4(folded[0]), self.sums4(folded[1]));
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn max_lane(self, v: V) -> f32 {
        let v = fold16!(v, vmaxnmq_f32);
        vouched!(vmaxnmvq_f32(v))
    }
}
