//! The arithmetic of a Qwen3.5 hybrid model, one operation a file.
//!
//! # Concepts
//!
//! - Every operation exists at least twice: a naive version that can be read beside the formula and is its specification
//!   ([`naive`]), and the versions that run. Tests compare them.
//! - [`cpu`] has the operations in Rust, with SIMD chosen at run time ([`cpu::Isa`]) and one thread pool ([`cpu::Pool`]).
//! - [`gpu`] has the kernel sources for Metal and CUDA, and a simulator that runs them on the host, in lockstep.
//! - [`AttentionDims`], [`DeltaDims`], [`ConvDims`] and [`ExpertDims`] are checked once, so that operations do not check sizes again.
//! - [`KvMode`] is how the KV cache stores values: plain, or quantised to 8 or 4 bits.

pub mod cpu;
mod dims;
pub mod gpu;
mod kv_mode;
pub mod naive;
mod rope;
#[cfg(test)]
mod testing;

pub use dims::{AttentionDims, ConvDims, DeltaDims, DimsError, ExpertDims};
pub use kv_mode::{KvMode, UnfitKvMode, UnknownKvMode};
pub use rope::{Rope, RopeScaling};
