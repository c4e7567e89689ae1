//! Why a model cannot be loaded.

use std::path::PathBuf;

use sanctum_manifest::ManifestError;

use super::adapter::{AdapterError, AdapterName};
use super::checkpoint::CheckpointError;
use super::model_config::ConfigError;
use super::source::ModelSource;
use super::weights_reader::WeightsError;
use crate::text::{TemplateError, TokenizerError};

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `config.json` describes something else.
    #[error("{place}: {source}")]
    Config {
        /// The folder.
        place: String,
        /// Why.
        source: ConfigError,
    },
    /// A file is missing or damaged.
    #[error("{place}: {source}")]
    Checkpoint {
        /// The folder.
        place: String,
        /// Why.
        source: CheckpointError,
    },
    /// The tensors do not make the model.
    #[error("{place}: {source}")]
    Weights {
        /// The folder.
        place: String,
        /// Why.
        source: Box<WeightsError>,
    },
    /// `tokenizer.json` cannot be used.
    #[error("{place}: {source}")]
    Tokenizer {
        /// The folder.
        place: String,
        /// Why.
        source: TokenizerError,
    },
    /// The chat template cannot be used.
    #[error("{place}: {source}")]
    Template {
        /// The folder.
        place: String,
        /// Why.
        source: TemplateError,
    },
    /// A small JSON file, or a field of it, cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The adapter cannot be merged into it.
    #[error("adapter {name}: {source}")]
    Adapter {
        /// What it is called.
        name: AdapterName,
        /// Why.
        source: Box<AdapterError>,
    },
    /// The folder is not what its manifest says.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl LoadError {
    pub(super) fn checkpoint(place: &ModelSource, source: CheckpointError) -> Self {
        Self::Checkpoint {
            place: place.to_string(),
            source,
        }
    }
}
