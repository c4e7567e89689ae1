//! The CPU dialect: portable Rust, with the instruction set chosen once at run time.
//!
//! Every operation takes a [`Cpu`], which says how many threads to use and which instructions to use on them.
//! No result depends on either the thread count or on which other rows share a call: each output is reduced by
//! one task in one fixed order.

mod attention;
mod bandwidth;
mod experts;
mod gated_delta;
mod isa;
mod linear;
mod logits;
mod norm;
mod pool;
mod segment;
mod short_conv;
mod simd;
mod swiglu;
mod tasks;

pub use attention::{AttentionInput, AttentionParams, KvCache, KvType, attention};
pub use bandwidth::{read_all, read_bandwidth};
pub use experts::{ExpertsParams, GatedMatrices, SharedExpertParams, experts};
pub use gated_delta::{DeltaInput, DeltaParams, gated_delta};
pub use isa::Isa;
pub use linear::{
    Affine, AffineParts, BlockFormat, Dense, Float, Matrix, MatrixError, Precision,
    affine_of_mxfp4, bf16_of_blocks, gather, project, widen_codes, widened_bits,
};
pub use logits::{argmax, log_sum_exp};
pub use norm::{add, add_rms_norm, gated_norm, rms_norm};
pub use pool::Pool;
pub use segment::Segment;
pub use short_conv::short_conv;
pub use swiglu::swiglu;

/// What an operation runs on: a pool of threads and the instruction set of this machine.
#[derive(Debug)]
pub struct Cpu {
    /// The threads that an operation is spread over.
    pub pool: Pool,
    /// The instructions that the inner loops may use.
    pub isa: Isa,
}

impl Cpu {
    /// Uses `threads` threads (the caller's own is one of them) and the best instruction set that this machine has.
    pub fn new(threads: usize) -> Self {
        Self::with_isa(threads, Isa::detect())
    }

    /// Like [`Cpu::new`] with the instruction set given; one that this machine lacks is replaced by
    /// [`Isa::Portable`].
    pub fn with_isa(threads: usize, isa: Isa) -> Self {
        let isa = if isa.available() { isa } else { Isa::Portable };
        Self {
            pool: Pool::new(threads),
            isa,
        }
    }
}
