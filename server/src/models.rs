//! The models that a server serves: which there are, and how their adapters are swapped.
//!
//! Nothing here knows HTTP: errors are [`ModelError`] and [`SwapError`], which the API turns into responses.

mod engine_figures;
mod error;
mod memory_split;
mod registry;
mod spec;
mod swap;

pub(crate) use engine_figures::{KeptPrefixes, PrefixTotals};
pub(crate) use error::{ModelError, SwapError};
pub(crate) use registry::{Models, Ready, Served};
pub(crate) use spec::ModelSpec;
pub(crate) use swap::AdapterSwaps;
