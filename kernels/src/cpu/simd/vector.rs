//! The vector operations that kernels are written in.

use half::f16;

/// Lanes of a vector.
pub(in crate::cpu) const LANES: usize = 16;

/// Proof that an instruction set is there, and its words. Only [`dispatch`](super::dispatch) makes one.
///
/// Every implementation's methods are inlined into the kernel, and the kernel into `dispatch`, where the
/// instructions are switched on; so must be every function between, by `#[inline(always)]`. A closure cannot be
/// told so: it must not touch a vector, and neither may `map` or `from_fn`, which take one.
pub(in crate::cpu) trait Simd: Copy {
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

/// A loop that [`dispatch`](super::dispatch) compiles for each instruction set.
pub(in crate::cpu) trait Kernel {
    /// What it returns.
    type Output;

    /// The loop; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}
