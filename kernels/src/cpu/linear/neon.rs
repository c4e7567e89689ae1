//! The quantised products with NEON: eight rows a panel, with or without the int8 dot products of `FEAT_DotProd`.
//!
//! `sdot` multiplies four signed bytes with four signed ones and adds the products to 32 bits. Without it, products
//! are added up in 16 bits: nibbles leave room for the eight of a column (8 · 15 · 127 = 15240). Eight-bit weights are
//! no signed bytes and are multiplied as two nibbles.

use std::arch::aarch64::*;
use std::arch::asm;

use super::lanes::{BLOCK, LINE, Lanes, ODD, PARTS};
use super::matrix::Float;

/// NEON as every 64-bit Arm has it.
pub(super) type Neon = Arm<false>;
/// NEON with `FEAT_DotProd`.
pub(super) type NeonDot = Arm<true>;

/// NEON, with dot products if `DOT`.
#[derive(Clone, Copy)]
pub(super) struct Arm<const DOT: bool>;

impl<const DOT: bool> Lanes for Arm<DOT> {
    type PartInts = [int32x4_t; 2];
    type PartFloats = [float32x4_t; 2];
    /// A column each.
    type Line = [int32x4_t; LINE];

    #[inline(always)]
    unsafe fn line4<const N: usize>(w: *const u8, x: *const i8) -> [[int32x4_t; LINE]; N] {
        // SAFETY: the caller vouches for the features, the weights and the activations.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); LINE]; N];
            for column in 0..LINE {
                let [low, high] = nibbles(vld1q_u8(w.add(16 * column)));
                for n in 0..N {
                    let x = x.add(n * BLOCK + 16 * column);
                    let (even, odd) = (vld1q_s8(x), vld1q_s8(x.add(ODD)));
                    sums[n][column] = if DOT {
                        sdot(sdot(vdupq_n_s32(0), low, even), high, odd)
                    } else {
                        vpaddlq_s16(vaddq_s16(products(low, even), products(high, odd)))
                    };
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn line8<const N: usize>(w: *const u8, x: *const i8) -> [[int32x4_t; LINE]; N] {
        // SAFETY: the caller vouches for the features, the weights and the activations.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); LINE]; N];
            for column in 0..LINE {
                let [low, high] = nibbles(vld1q_u8(w.add(16 * column)));
                for n in 0..N {
                    let x = vld1q_s8(x.add(n * BLOCK + 16 * column));
                    let (low, high) = if DOT {
                        (sdot(vdupq_n_s32(0), low, x), sdot(vdupq_n_s32(0), high, x))
                    } else {
                        (
                            vpaddlq_s16(products(low, x)),
                            vpaddlq_s16(products(high, x)),
                        )
                    };
                    sums[n][column] = vaddq_s32(low, vshlq_n_s32::<4>(high));
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn fold(a: [int32x4_t; LINE], b: [int32x4_t; LINE]) -> [int32x4_t; LINE] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            [
                vaddq_s32(a[0], a[1]),
                vaddq_s32(a[2], a[3]),
                vaddq_s32(b[0], b[1]),
                vaddq_s32(b[2], b[3]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn add_up(a: [int32x4_t; LINE], b: [int32x4_t; LINE]) -> [int32x4_t; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            [
                vpaddq_s32(vpaddq_s32(a[0], a[1]), vpaddq_s32(a[2], a[3])),
                vpaddq_s32(vpaddq_s32(b[0], b[1]), vpaddq_s32(b[2], b[3])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn zero_parts() -> [float32x4_t; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe { [vdupq_n_f32(0.0); 2] }
    }

    #[inline(always)]
    unsafe fn read_parts(float: Float, from: *const u8) -> [float32x4_t; 2] {
        // SAFETY: the caller vouches for the features and for eight numbers.
        unsafe {
            let first = vld1q_u8(from);
            match float {
                Float::F32 => [
                    vreinterpretq_f32_u8(first),
                    vreinterpretq_f32_u8(vld1q_u8(from.add(16))),
                ],
                Float::F16 => {
                    let halves = vreinterpretq_u16_u8(first);
                    [widen(vget_low_u16(halves)), widen(vget_high_u16(halves))]
                }
                Float::Bf16 => {
                    let halves = vreinterpretq_u16_u8(first);
                    [
                        vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(halves))),
                        vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(halves))),
                    ]
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn accumulate_parts(
        mut y: [float32x4_t; 2],
        sums: [int32x4_t; 2],
        [scale, bias]: [[float32x4_t; 2]; 2],
        steps: *const f32,
        totals: *const f32,
    ) -> [float32x4_t; 2] {
        // SAFETY: the caller vouches for the features and for eight steps and totals.
        unsafe {
            for half in 0..2 {
                let scale = vmulq_f32(scale[half], vld1q_f32(steps.add(4 * half)));
                y[half] = vfmaq_f32(y[half], vcvtq_f32_s32(sums[half]), scale);
                y[half] = vfmaq_f32(y[half], bias[half], vld1q_f32(totals.add(4 * half)));
            }
            y
        }
    }

    #[inline(always)]
    unsafe fn store_parts(y: [float32x4_t; 2]) -> [f32; PARTS] {
        let mut parts = [0.0; PARTS];
        // SAFETY: the caller vouches for the features; eight parts fit.
        unsafe { Self::store(y, parts.as_mut_ptr()) };
        parts
    }

    const ROWS: usize = 8;
    const TILE: usize = 4;
    /// Four rows each.
    type Words = [uint8x16_t; 2];
    /// Low nibbles of four words, then their high nibbles.
    type Column = [[int8x16_t; 2]; 8];
    type Ints = [int32x4_t; 2];
    type Floats = [float32x4_t; 2];

    #[inline(always)]
    unsafe fn transpose(first: *const u8, stride: usize) -> [[uint8x16_t; 2]; 4] {
        // SAFETY: the caller vouches for the features and for 16 bytes of each row.
        unsafe {
            let a = four_rows(first, stride);
            let b = four_rows(first.add(4 * stride), stride);
            [[a[0], b[0]], [a[1], b[1]], [a[2], b[2]], [a[3], b[3]]]
        }
    }

    #[inline(always)]
    unsafe fn unpack4(words: [[uint8x16_t; 2]; 4]) -> [[int8x16_t; 2]; 8] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let mut column = [[vdupq_n_s8(0); 2]; 8];
            for i in 0..4 {
                for half in 0..2 {
                    let [low, high] = nibbles(words[i][half]);
                    column[i][half] = low;
                    column[4 + i][half] = high;
                }
            }
            column
        }
    }

    #[inline(always)]
    unsafe fn unpack8(words: [[uint8x16_t; 2]; 4]) -> [[int8x16_t; 2]; 8] {
        // SAFETY: as for the caller.
        unsafe { Self::unpack4(words) }
    }

    #[inline(always)]
    unsafe fn zero_ints() -> [int32x4_t; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe { [vdupq_n_s32(0); 2] }
    }

    #[inline(always)]
    unsafe fn dot4<const N: usize>(
        sums: &mut [[int32x4_t; 2]; N],
        w: &[[int8x16_t; 2]; 8],
        x: *const i8,
    ) {
        // SAFETY: the caller vouches for the features and the activations.
        unsafe {
            for n in 0..N {
                let x = x.add(n * BLOCK);
                let (even, odd) = (vld1q_s8(x), vld1q_s8(x.add(ODD)));
                for half in 0..2 {
                    let low = [w[0][half], w[1][half], w[2][half], w[3][half]];
                    let high = [w[4][half], w[5][half], w[6][half], w[7][half]];
                    sums[n][half] = if DOT {
                        let sums = sdot_words(sums[n][half], low, even);
                        sdot_words(sums, high, odd)
                    } else {
                        let zero = [vdupq_n_s16(0); 2];
                        let sums16 = add_words(zero, low, even);
                        let sums16 = add_words(sums16, high, odd);
                        vaddq_s32(sums[n][half], add_up_rows(sums16))
                    };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn dot8<const N: usize>(
        sums: &mut [[int32x4_t; 2]; N],
        w: &[[int8x16_t; 2]; 8],
        x: *const i8,
    ) {
        // SAFETY: the caller vouches for the features and the activations.
        unsafe {
            for n in 0..N {
                let x = vld1q_s8(x.add(n * BLOCK));
                for half in 0..2 {
                    let low = [w[0][half], w[1][half], w[2][half], w[3][half]];
                    let high = [w[4][half], w[5][half], w[6][half], w[7][half]];
                    let (low, high) = if DOT {
                        (
                            sdot_words(sums[n][half], low, x),
                            sdot_words(vdupq_n_s32(0), high, x),
                        )
                    } else {
                        let zero = [vdupq_n_s16(0); 2];
                        (
                            vaddq_s32(sums[n][half], add_up_rows(add_words(zero, low, x))),
                            add_up_rows(add_words(zero, high, x)),
                        )
                    };
                    sums[n][half] = vaddq_s32(low, vshlq_n_s32::<4>(high));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn zero() -> [float32x4_t; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe { [vdupq_n_f32(0.0); 2] }
    }

    #[inline(always)]
    unsafe fn add(a: [float32x4_t; 2], b: [float32x4_t; 2]) -> [float32x4_t; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe { [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn f16([a, b]: [uint8x16_t; 2]) -> [[float32x4_t; 2]; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let (a, b) = (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
            [
                [widen(vmovn_u32(a)), widen(vmovn_u32(b))],
                [widen(vshrn_n_u32::<16>(a)), widen(vshrn_n_u32::<16>(b))],
            ]
        }
    }

    #[inline(always)]
    unsafe fn bf16([a, b]: [uint8x16_t; 2]) -> [[float32x4_t; 2]; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            let (a, b) = (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
            let upper = vdupq_n_u32(0xffff_0000);
            [
                [
                    vreinterpretq_f32_u32(vshlq_n_u32::<16>(a)),
                    vreinterpretq_f32_u32(vshlq_n_u32::<16>(b)),
                ],
                [
                    vreinterpretq_f32_u32(vandq_u32(a, upper)),
                    vreinterpretq_f32_u32(vandq_u32(b, upper)),
                ],
            ]
        }
    }

    #[inline(always)]
    unsafe fn f32([a, b]: [uint8x16_t; 2]) -> [float32x4_t; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe { [vreinterpretq_f32_u8(a), vreinterpretq_f32_u8(b)] }
    }

    #[inline(always)]
    unsafe fn accumulate(
        mut y: [float32x4_t; 2],
        sums: [int32x4_t; 2],
        [scale, bias]: [[float32x4_t; 2]; 2],
        [step, total]: [f32; 2],
    ) -> [float32x4_t; 2] {
        // SAFETY: the caller vouches for the features.
        unsafe {
            for half in 0..2 {
                let scale = vmulq_n_f32(scale[half], step);
                y[half] = vfmaq_f32(y[half], vcvtq_f32_s32(sums[half]), scale);
                y[half] = vfmaq_n_f32(y[half], bias[half], total);
            }
            y
        }
    }

    #[inline(always)]
    unsafe fn store(y: [float32x4_t; 2], to: *mut f32) {
        // SAFETY: the caller vouches for the features and the room.
        unsafe {
            vst1q_f32(to, y[0]);
            vst1q_f32(to.add(4), y[1]);
        }
    }

    #[inline(always)]
    fn prefetch_near(at: *const u8) {
        // SAFETY: a prefetch cannot fault.
        unsafe {
            asm!("prfm pldl1keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags))
        };
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: a prefetch cannot fault.
        unsafe {
            asm!("prfm pldl2keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags))
        };
    }
}

/// The low and the high nibble of each byte, as signed bytes.
///
/// # Safety
/// NEON must be available, as for all functions below.
#[inline(always)]
unsafe fn nibbles(bytes: uint8x16_t) -> [int8x16_t; 2] {
    // SAFETY: the caller vouches for the feature.
    unsafe {
        [
            vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15))),
            vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes)),
        ]
    }
}

/// Sixteen bytes of four consecutive rows: element `i` holds bytes `4i..4i + 4` of each.
///
/// # Safety
/// See [`nibbles`]; the rows must be valid for reading.
#[inline(always)]
unsafe fn four_rows(first: *const u8, stride: usize) -> [uint8x16_t; 4] {
    // SAFETY: the caller vouches for both.
    unsafe {
        let a = vreinterpretq_u32_u8(vld1q_u8(first));
        let b = vreinterpretq_u32_u8(vld1q_u8(first.add(stride)));
        let c = vreinterpretq_u32_u8(vld1q_u8(first.add(2 * stride)));
        let d = vreinterpretq_u32_u8(vld1q_u8(first.add(3 * stride)));
        let even_ab = vreinterpretq_u64_u32(vtrn1q_u32(a, b));
        let even_cd = vreinterpretq_u64_u32(vtrn1q_u32(c, d));
        let odd_ab = vreinterpretq_u64_u32(vtrn2q_u32(a, b));
        let odd_cd = vreinterpretq_u64_u32(vtrn2q_u32(c, d));
        [
            vreinterpretq_u8_u64(vtrn1q_u64(even_ab, even_cd)),
            vreinterpretq_u8_u64(vtrn1q_u64(odd_ab, odd_cd)),
            vreinterpretq_u8_u64(vtrn2q_u64(even_ab, even_cd)),
            vreinterpretq_u8_u64(vtrn2q_u64(odd_ab, odd_cd)),
        ]
    }
}

/// Products of sixteen bytes, those of the lower half and of the upper half added.
///
/// # Safety
/// See [`nibbles`].
#[inline(always)]
unsafe fn products(w: int8x16_t, x: int8x16_t) -> int16x8_t {
    // SAFETY: the caller vouches for the feature.
    unsafe { vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x) }
}

/// Adds the products of four words of four rows with the sixteen activations in `x`: to eight sums for the first two
/// rows and eight for the others.
///
/// # Safety
/// See [`nibbles`].
#[inline(always)]
unsafe fn add_words(sums: [int16x8_t; 2], w: [int8x16_t; 4], x: int8x16_t) -> [int16x8_t; 2] {
    // SAFETY: the caller vouches for the feature.
    unsafe {
        let x = vreinterpretq_s32_s8(x);
        let sums = add_word(sums, w[0], vdupq_laneq_s32::<0>(x));
        let sums = add_word(sums, w[1], vdupq_laneq_s32::<1>(x));
        let sums = add_word(sums, w[2], vdupq_laneq_s32::<2>(x));
        add_word(sums, w[3], vdupq_laneq_s32::<3>(x))
    }
}

/// Adds the products of one word of four rows with the same four activations.
///
/// # Safety
/// See [`nibbles`].
#[inline(always)]
unsafe fn add_word([a, b]: [int16x8_t; 2], w: int8x16_t, x: int32x4_t) -> [int16x8_t; 2] {
    // SAFETY: the caller vouches for the feature.
    unsafe {
        let x = vreinterpretq_s8_s32(x);
        [
            vmlal_s8(a, vget_low_s8(w), vget_low_s8(x)),
            vmlal_high_s8(b, w, x),
        ]
    }
}

/// Adds up four sums a row.
///
/// # Safety
/// See [`nibbles`].
#[inline(always)]
unsafe fn add_up_rows([a, b]: [int16x8_t; 2]) -> int32x4_t {
    // SAFETY: the caller vouches for the feature.
    unsafe { vpaddq_s32(vpaddlq_s16(a), vpaddlq_s16(b)) }
}

// The dot products and the conversion from half precision have no stable intrinsics yet.

/// Adds the products of four bytes each to four sums.
///
/// # Safety
/// `FEAT_DotProd` must be available.
#[inline(always)]
unsafe fn sdot(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller vouches for the feature; only registers are touched.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            w = in(vreg) w,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds the products of four words of four rows with the sixteen activations in `x`.
///
/// # Safety
/// `FEAT_DotProd` must be available.
#[inline(always)]
unsafe fn sdot_words(mut sums: int32x4_t, w: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller vouches for the feature; only registers are touched.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {a:v}.16b, {x:v}.4b[0]",
            "sdot {sums:v}.4s, {b:v}.16b, {x:v}.4b[1]",
            "sdot {sums:v}.4s, {c:v}.16b, {x:v}.4b[2]",
            "sdot {sums:v}.4s, {d:v}.16b, {x:v}.4b[3]",
            sums = inout(vreg) sums,
            a = in(vreg) w[0],
            b = in(vreg) w[1],
            c = in(vreg) w[2],
            d = in(vreg) w[3],
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Four numbers in half precision as singles.
///
/// # Safety
/// See [`nibbles`].
#[inline(always)]
unsafe fn widen(halves: uint16x4_t) -> float32x4_t {
    let singles: float32x4_t;
    // SAFETY: the caller vouches for the feature; only registers are touched.
    unsafe {
        asm!(
            "fcvtl {singles:v}.4s, {halves:v}.4h",
            singles = lateout(vreg) singles,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    singles
}
