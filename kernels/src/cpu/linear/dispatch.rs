//! Compiles a routine for each instruction set, and runs the one for this machine.

use super::lanes::Routine;
use super::portable::Portable;
use crate::cpu::Isa;

/// Runs the routine in the version for `isa`.
pub(super) fn dispatch<R: Routine>(isa: Isa, routine: R) -> R::Output {
    assert!(isa.available(), "this machine has no {isa}");
    match isa {
        // SAFETY: plain Rust runs everywhere.
        Isa::Portable => unsafe { routine.run::<Portable>() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: just found to be available.
        Isa::Avx2 => unsafe { x86::avx2(routine) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: just found to be available.
        Isa::Avx512 => unsafe { x86::avx512(routine) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: just found to be available.
        Isa::Neon => unsafe { arm::neon(routine) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: just found to be available.
        Isa::NeonDot => unsafe { arm::neon_dot(routine) },
        #[allow(unreachable_patterns)] // the arms above differ by target
        _ => unreachable!("available on this target, yet not compiled for it"),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::{avx2::Avx2, avx512::Avx512};
    use super::Routine;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn avx2<R: Routine>(routine: R) -> R::Output {
        // SAFETY: the caller vouches for the features that this function enables.
        unsafe { routine.run::<Avx2>() }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn avx512<R: Routine>(routine: R) -> R::Output {
        // SAFETY: the caller vouches for the features that this function enables.
        unsafe { routine.run::<Avx512>() }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::super::neon::{Neon, NeonDot};
    use super::Routine;

    #[target_feature(enable = "neon")]
    pub(super) unsafe fn neon<R: Routine>(routine: R) -> R::Output {
        // SAFETY: the caller vouches for the features that this function enables.
        unsafe { routine.run::<Neon>() }
    }

    #[target_feature(enable = "neon,dotprod")]
    pub(super) unsafe fn neon_dot<R: Routine>(routine: R) -> R::Output {
        // SAFETY: the caller vouches for the features that this function enables.
        unsafe { routine.run::<NeonDot>() }
    }
}
