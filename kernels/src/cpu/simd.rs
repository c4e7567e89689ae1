//! Sixteen floats at a time, in the same words on every instruction set.
//!
//! A kernel is written once over [`Simd`] and compiled once for each instruction set by [`dispatch`]. Sixteen
//! lanes are one AVX-512 register, two of AVX2 or four of NEON; multiply-adds round once everywhere and sums
//! across lanes follow one tree, so every instruction set gives the same bits. Plain auto-vectorised loops would
//! need no intrinsics, but a handful of accumulators that live across a loop is just where the optimiser gives up.
//!
//! [`Isa::Portable`] emulates the fused multiply-add where the build's target lacks it: slow, and right.

mod lines;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::Isa;
pub(super) use lines::{F16Line, F32Line, Line};
pub(super) use math::{exp, exp_scalar, sigmoid, silu, softplus};
pub(super) use vector::{Kernel, LANES, Simd};

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

#[cfg(test)]
mod tests;
