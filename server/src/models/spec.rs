//! What is known of a model before it is loaded.

use sanctum_config::{ModelAlias, ModelId};
use sanctum_engine::load::AdapterSource;
use sanctum_engine::load::ModelSource;

/// A model to serve.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelSpec {
    /// The id that requests name it by.
    pub id: ModelId,
    /// Other names by which requests may name it.
    pub aliases: Vec<ModelAlias>,
    /// Where its weights are, and what they must match.
    pub source: ModelSource,
    /// The adapter that it starts with.
    pub adapter: Option<AdapterSource>,
}
