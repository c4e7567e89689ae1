//! The files of a checkpoint: which there are, and which tensors they hold.
//!
//! Files are mapped, not read: a tensor is a view into the pages of its file, and the CPU backend multiplies it in place.
//! Exporters' prefixes are removed from names here ([`canonical_name`]); `weights_reader` decides which tensors a model
//! must have.

mod error;
mod files;
mod tensors;

pub use error::CheckpointError;
pub use files::Files;
pub(crate) use tensors::{Tensor, canonical_name, shard_tensors, tensors};
