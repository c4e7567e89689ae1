//! The arithmetic of a Qwen3.5 hybrid model, one operation a file.
//!
//! Every operation exists at least twice: a naive version that can be read beside the formula and serves as
//! its specification ([`naive`]), and the versions that run. [`cpu`] holds the pure Rust dialect, [`gpu`] the texts for Metal and CUDA.

pub mod cpu;
mod dims;
pub mod gpu;
mod kv_mode;
pub mod naive;
mod rope;
#[cfg(test)]
mod testing;

pub use dims::{AttentionDims, ConvDims, DeltaDims, DimsError};
pub use kv_mode::{KvMode, UnfitKvMode, UnknownKvMode};
pub use rope::{Rope, RopeScaling};
