//! Sixteen floats at a time, in the same words on every instruction set.
//!
//! A kernel is written once over [`Simd`] and compiled once for each instruction set by [`dispatch`]. Sixteen
//! lanes are one AVX-512 register, two of AVX2 or four of NEON; multiply-adds round once everywhere and sums
//! across lanes follow one tree, so every instruction set gives the same bits. Plain auto-vectorised loops would
//! need no intrinsics, but a handful of accumulators that live across a loop is just where the optimiser gives up.
//!
//! [`Isa::Portable`] emulates the fused multiply-add where the build's target lacks it: slow, and right.

mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use half::f16;

use super::Isa;
pub(super) use math::{exp, exp_scalar, sigmoid, silu, softplus};

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// Proof that an instruction set is there, and its words. Only [`dispatch`] makes one.
///
/// Every implementation's methods are inlined into the kernel, and the kernel into `dispatch`, where the
/// instructions are switched on; so must be every function between, by `#[inline(always)]`. A closure cannot be
/// told so: it must not touch a vector, and neither may `map` or `from_fn`, which take one.
pub(super) trait Simd: Copy {
    /// Sixteen floats.
    type V: Copy;
    /// Whether there are registers for sixteen vectors and more: 32 of 16 lanes, against 16 of 8 or 32 of 4.
    const WIDE: bool;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32; LANES]) -> Self::V;
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    fn load_half(self, x: &[f16; LANES]) -> Self::V;
    /// Sixteen whole numbers.
    #[inline(always)]
    fn load_bytes(self, x: &[u8; LANES]) -> Self::V {
        let mut floats = [0.0; LANES];
        for (float, byte) in floats.iter_mut().zip(x) {
            *float = f32::from(*byte);
        }
        self.load(&floats)
    }
    /// Sixteen whole numbers of four bits, of two in a byte the low one first.
    #[inline(always)]
    fn load_nibbles(self, x: &[u8; LANES / 2]) -> Self::V {
        let mut bytes = [0; LANES];
        for (pair, byte) in bytes.as_chunks_mut().0.iter_mut().zip(x) {
            *pair = [byte & 15, byte >> 4];
        }
        self.load_bytes(&bytes)
    }
    /// Rounds to nearest even.
    fn store_half(self, v: Self::V, to: &mut [f16; LANES]);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where `a` is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where `a` is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `yes` where `a < b`, otherwise `no`.
    fn where_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `2^n` where `x = n + 1.5 · 2^23` and `-126 <= n <= 127`: the low bits of such a float are `n`.
    fn exp2_biased(self, x: Self::V) -> Self::V;
    /// The sum of all lanes: lane `i` with `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    fn sum(self, v: Self::V) -> f32;
    /// [`Simd::sum`] of each.
    fn sums(self, v: [Self::V; 8]) -> [f32; 8];
    /// The largest lane.
    fn max_lane(self, v: Self::V) -> f32;

    /// The first `x.len()` lanes, `fill` in the others.
    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> Self::V {
        let mut whole = [fill; LANES];
        whole[..x.len()].copy_from_slice(x);
        self.load(&whole)
    }

    /// Stores the first `to.len()` lanes.
    #[inline(always)]
    fn store_part(self, v: Self::V, to: &mut [f32]) {
        let mut whole = [0.0; LANES];
        self.store(v, &mut whole);
        to.copy_from_slice(&whole[..to.len()]);
    }
}

/// A loop that [`dispatch`] compiles for each instruction set.
pub(super) trait Kernel {
    /// What it returns.
    type Output;

    /// The loop; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Runs `kernel` with the instructions of `isa`, or portably if this machine lacks them.
pub(super) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        // SAFETY: the arm's guard has just asked the processor for every feature that the function enables.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if isa.available() => unsafe { x86::run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if isa.available() => unsafe { x86::run_avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon | Isa::NeonDot if isa.available() => unsafe { neon::run(kernel) },
        _ => kernel.run(portable::Portable),
    }
}

/// Asks for the memory around `item` to be brought near. Only a hint.
#[inline(always)]
pub(super) fn prefetch<T>(item: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see; SSE belongs to every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(item).cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch reads nothing that the program can see.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{0}]", in(reg) item, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = item;
}

/// Sixteen numbers that lie side by side in memory, as a cache stores them.
pub(super) trait Line: Copy + Send + Sync + 'static {
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
pub(super) struct F32Line(pub [f32; LANES]);

impl F32Line {
    /// The same memory as plain floats.
    pub(super) fn flatten(lines: &mut [Self]) -> &mut [f32] {
        // SAFETY: a line is sixteen floats and nothing else (its alignment equals its size, so there is no
        // padding), and the slice is borrowed as long as the result.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LANES) }
    }
}

/// Sixteen f16, half a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct F16Line(pub [f16; LANES]);

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

#[cfg(test)]
mod tests;
