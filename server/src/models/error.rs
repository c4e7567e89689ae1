//! Why a model cannot be used.

/// A model that does not exist, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModelError {
    /// No model has the id.
    #[error("the model `{id}` does not exist{fix}")]
    NotFound {
        /// The id in the request.
        id: String,
        /// Which models there are, as the end of the sentence.
        fix: String,
    },
    /// It is still loading.
    #[error("the model `{id}` is still loading; GET /health shows its progress")]
    Loading {
        /// The model.
        id: String,
    },
}

/// An adapter that was not swapped in; the model stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SwapError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No adapter has the name.
    #[error("there is no adapter `{name}`{fix}")]
    NotFound {
        /// The name in the request.
        name: String,
        /// Which adapters there are, as the end of the sentence.
        fix: String,
    },
    /// It does not fit the model, or is no adapter.
    #[error("the adapter `{name}` cannot be merged: {why}; the model stays as it was")]
    Unusable {
        /// The adapter.
        name: String,
        /// Why not.
        why: String,
    },
    /// Two engines of the model do not fit into memory.
    #[error("{0}; the model stays as it was")]
    NoMemory(String),
    /// The server has no folder of adapters.
    #[error(
        "this server does not swap adapters: it was started without --adapter-dir; start it with that flag, or with \
         --adapter-path"
    )]
    Disabled,
    /// Another swap of the model is running.
    #[error("another swap of `{id}` is running; try again when GET /v1/adapters shows its result")]
    Running {
        /// The model.
        id: String,
    },
    /// The server drains.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The model could not be loaded again.
    #[error(
        "the model cannot be loaded again and stays as it was; see the server's log for the reason"
    )]
    Load,
    /// The swap's own task failed.
    #[error("the swap ended early: {0}")]
    Task(String),
}
