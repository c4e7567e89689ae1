//! Sixteen numbers as memory holds them.

use half::f16;

use super::vector::{LANES, Simd};

/// Sixteen numbers that lie side by side in memory, as a cache stores them.
pub(in crate::cpu) trait Line: Copy + Send + Sync + 'static {
    /// How one number is stored.
    type Item: Copy;
    /// Sixteen zeros.
    const ZERO: Self;

    fn items(&self) -> &[Self::Item; LANES];
    fn items_mut(&mut self) -> &mut [Self::Item; LANES];
    fn load<S: Simd>(&self, s: S) -> S::V;
    /// Rounds to what the line can hold; what is too large for it saturates.
    fn store<S: Simd>(&mut self, s: S, v: S::V);
}

/// Sixteen f32, one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(in crate::cpu) struct F32Line(pub [f32; LANES]);

impl F32Line {
    /// The same memory as plain floats.
    pub(in crate::cpu) fn flatten(lines: &mut [Self]) -> &mut [f32] {
        // SAFETY: a line is sixteen floats and nothing else (its alignment equals its size, so there is no
        // padding), and the slice is borrowed as long as the result.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LANES) }
    }
}

/// Sixteen f16, half a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(in crate::cpu) struct F16Line(pub [f16; LANES]);

impl Line for F32Line {
    type Item = f32;
    const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    fn items(&self) -> &[f32; LANES] {
        &self.0
    }

    #[inline(always)]
    fn items_mut(&mut self) -> &mut [f32; LANES] {
        &mut self.0
    }

    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::V {
        s.load(&self.0)
    }

    #[inline(always)]
    fn store<S: Simd>(&mut self, s: S, v: S::V) {
        s.store(v, &mut self.0);
    }
}

/// Working memory, wherever it lies.
impl Line for [f32; LANES] {
    type Item = f32;
    const ZERO: Self = [0.0; LANES];

    #[inline(always)]
    fn items(&self) -> &[f32; LANES] {
        self
    }

    #[inline(always)]
    fn items_mut(&mut self) -> &mut [f32; LANES] {
        self
    }

    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::V {
        s.load(self)
    }

    #[inline(always)]
    fn store<S: Simd>(&mut self, s: S, v: S::V) {
        s.store(v, self);
    }
}

impl Line for F16Line {
    type Item = f16;
    const ZERO: Self = Self([f16::ZERO; LANES]);

    #[inline(always)]
    fn items(&self) -> &[f16; LANES] {
        &self.0
    }

    #[inline(always)]
    fn items_mut(&mut self) -> &mut [f16; LANES] {
        &mut self.0
    }

    #[inline(always)]
    fn load<S: Simd>(&self, s: S) -> S::V {
        s.load_half(&self.0)
    }

    #[inline(always)]
    fn store<S: Simd>(&mut self, s: S, v: S::V) {
        let largest = f16::MAX.to_f32_const();
        let v = s.max(s.min(v, s.splat(largest)), s.splat(-largest));
        s.store_half(v, &mut self.0);
    }
}
