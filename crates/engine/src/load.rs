//! From a checkpoint folder, the built-in model or random weights to a model that is ready to run.
//!
//! A [`ModelSource`] says where the model comes from. [`ModelSource::open`] reads its files ([`Files`]), checks the shape that
//! `config.json` describes ([`ModelConfig`]), puts the tensors in their places ([`weights`]), merges a LoRA adapter
//! ([`AdapterSource`]) if one is named, and loads the text side ([`Text`](crate::text::Text)).

pub(crate) mod adapter;
pub(crate) mod checkpoint;
pub mod embedded;
mod error;
mod host_model;
pub(crate) mod model_config;
pub mod random;
mod source;
mod summary;
mod text_files;
pub mod weights;
mod weights_reader;

pub use adapter::{AdapterError, AdapterInfo, AdapterName, AdapterSource, InvalidAdapterName};
pub use checkpoint::{CheckpointError, Files};
pub use error::LoadError;
pub use host_model::{HostModel, Loaded};
pub use model_config::{
    AffineQuantization, ConfigError, FeedForward, Mixer, ModelConfig, ModuleQuantization, Packing,
    Quantization,
};
pub use source::ModelSource;
pub use summary::{ModelSummary, ModuleKind, ModuleSummary, StoredAs};
pub use weights_reader::WeightsError;
