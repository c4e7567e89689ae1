//! Exponentials and what is made of them, to about one unit in the last place.

use super::vector::{LANES, Simd};

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has zeros to spare, so that multiples of it up to 2^8 are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Adding this to a float below 2^22 leaves its nearest whole number in the low bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2^-126: below it a result would be subnormal, and is 0.
const LOWEST: f32 = -87.336_54;
/// The largest that keeps the exponent below 128; above it the result stays at 2.4e38.
const HIGHEST: f32 = 88.376_26;

/// `e^x`: `2^n · e^r` with `|r| <= ln 2 / 2`, and Taylor's series to the seventh power for `e^r`.
///
/// 0 below the smallest normal float, 2.4e38 where it would overflow.
#[inline(always)]
pub(in crate::cpu) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let lowest = s.splat(LOWEST);
    let clamped = s.min(s.max(x, lowest), s.splat(HIGHEST));
    let rounded = s.mul_add(clamped, s.splat(LOG2_E), s.splat(ROUNDER));
    let n = s.sub(rounded, s.splat(ROUNDER));
    let r = s.mul_add(n, s.splat(-LN_2_HIGH), clamped);
    let r = s.mul_add(n, s.splat(-LN_2_LOW), r);
    let mut p = s.splat(1.0 / 5040.0);
    for factorial in [720.0, 120.0, 24.0, 6.0, 2.0] {
        p = s.mul_add(p, r, s.splat(1.0 / factorial));
    }
    let p = s.add(s.mul_add(s.mul(r, r), p, r), s.splat(1.0));
    let power = s.mul(p, s.exp2_biased(rounded));
    s.where_less(x, lowest, s.splat(0.0), power)
}

/// [`exp`] of one number, to the same bits.
#[inline(always)]
pub(in crate::cpu) fn exp_scalar<S: Simd>(s: S, x: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(exp(s, s.splat(x)), &mut lanes);
    lanes[0]
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(in crate::cpu) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(in crate::cpu) fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(x, s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), x))))
}

/// `ln(1 + e^x) = max(x, 0) + ln(1 + u)` with `u = e^-|x|`.
///
/// `ln(1 + u) = 2 artanh(t)` with `t = u / (2 + u) <= 1/3`, by its series to the fifteenth power: no term cancels
/// another, so the result is as good where it is tiny as elsewhere.
#[inline(always)]
pub(in crate::cpu) fn softplus<S: Simd>(s: S, x: S::V) -> S::V {
    let minus = s.sub(s.splat(0.0), x);
    let u = exp(s, s.min(x, minus));
    let t = s.div(u, s.add(u, s.splat(2.0)));
    let square = s.mul(t, t);
    let mut p = s.splat(1.0 / 15.0);
    for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = s.mul_add(p, square, s.splat(1.0 / odd));
    }
    s.mul_add(s.add(t, t), p, s.max(x, s.splat(0.0)))
}
