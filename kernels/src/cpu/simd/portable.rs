//! The words in plain Rust.

use std::array;

use half::f16;

use super::vector::{LANES, Simd};

/// Needs nothing of the machine.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; LANES];

#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> V {
    array::from_fn(f)
}

/// Folds sixteen lanes into one: `i` with `i + 8`, `i + 4`, `i + 2`, `i + 1`.
#[inline(always)]
fn fold(mut v: V, f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] = f(v[i], v[i + half]);
        }
    }
    v[0]
}

impl Simd for Portable {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> V {
        *x
    }

    #[inline(always)]
    fn store(self, v: V, to: &mut [f32; LANES]) {
        *to = v;
    }

    #[inline(always)]
    fn load_half(self, x: &[f16; LANES]) -> V {
        lanes(|i| x[i].to_f32())
    }

    #[inline(always)]
    fn store_half(self, v: V, to: &mut [f16; LANES]) {
        *to = v.map(f16::from_f32);
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        lanes(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        lanes(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        lanes(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        lanes(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        lanes(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn where_less(self, a: V, b: V, yes: V, no: V) -> V {
        lanes(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn exp2_biased(self, x: V) -> V {
        lanes(|i| f32::from_bits((x[i].to_bits() << 23).wrapping_add(1.0_f32.to_bits())))
    }

    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        fold(v, |a, b| a + b)
    }

    #[inline(always)]
    fn sums(self, v: [V; 8]) -> [f32; 8] {
        v.map(|v| self.sum(v))
    }

    #[inline(always)]
    fn max_lane(self, v: V) -> f32 {
        fold(v, |a, b| if a > b { a } else { b })
    }
}
