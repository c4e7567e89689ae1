//! Why tensors do not make a model.

use safetensors::Dtype;

use crate::load::adapter::AdapterError;
use crate::load::model_config::ModuleQuantization;

/// Why tensors do not make the model that `config.json` describes.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A tensor is missing.
    #[error(
        "tensor {0}, which config.json requires, is missing from the checkpoint; copy config.json and the checkpoint from the same model"
    )]
    Missing(String),
    /// Tensors are there that the model does not have.
    #[error("the model has no tensor {first}{}; copy config.json and the checkpoint from the same model",
        if *others > 0 { format!(" and {others} more") } else { String::new() })]
    Unused {
        /// One of them.
        first: String,
        /// How many more there are.
        others: usize,
    },
    /// A tensor has another shape than `config.json` implies.
    #[error("tensor {name} in {file} has shape {found:?}, but config.json requires {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its file.
        file: String,
        /// Its shape.
        found: Vec<usize>,
        /// The right shape.
        expected: Vec<usize>,
    },
    /// A tensor has a type that is not supported.
    #[error("tensor {name} in {file} is stored as {found:?}; {wanted} is supported")]
    Type {
        /// The tensor.
        name: String,
        /// Its file.
        file: String,
        /// Its type.
        found: Dtype,
        /// What would do.
        wanted: &'static str,
    },
    /// A matrix has scales but `config.json` says that it is not quantised, or nothing of quantisation.
    #[error(
        "{module} has scales, but config.json (`quantization`) says that it is not quantised; copy config.json and the checkpoint from the same model"
    )]
    NotDescribed {
        /// The module.
        module: String,
    },
    /// A quantised matrix has other bits or groups than `config.json` says.
    #[error(
        "config.json (`quantization`) says that {module} has {said}, but the shapes of its tensors in {file} say {found}; \
         remove the entry: the shapes determine it"
    )]
    OtherPacking {
        /// The module.
        module: String,
        /// The file of its tensors.
        file: String,
        /// What config.json says.
        said: ModuleQuantization,
        /// What the shapes say.
        found: ModuleQuantization,
    },
    /// The shapes of a quantised matrix are those of no quantisation that this engine computes.
    #[error(
        "{module} in {file} is quantised with {found} for the {cols} inputs that config.json requires; 2, 3, 4, 5, 6 or 8 \
         bits in groups of 32, 64 or 128, mxfp4, mxfp8 and nvfp4 are supported. Convert with mlx_lm.convert -q --q-bits 4, if config.json belongs to this checkpoint"
    )]
    Packing {
        /// The module.
        module: String,
        /// The file of its tensors.
        file: String,
        /// Inputs that the model has for it.
        cols: usize,
        /// What the shapes say.
        found: String,
    },
    /// The experts of a layer are missing, in every layout.
    #[error(
        "the experts of {at} are missing from the checkpoint: it has neither {at}.switch_mlp.gate_proj.weight (MLX) nor \
         {at}.experts.gate_up_proj nor {at}.experts.0.gate_proj.weight (transformers); copy config.json and the checkpoint from the same model"
    )]
    NoExperts {
        /// The layer's feed-forward part.
        at: String,
    },
    /// Matrices of the experts of a layer are stored in different ways.
    #[error(
        "{module} is stored in another type or quantisation than expert 0 of its layer; one form for all experts of a layer is \
         supported. Convert the model again"
    )]
    UnlikeExperts {
        /// The module that differs.
        module: String,
    },
    /// There is no output matrix, and the embedding must not be used as one.
    #[error(
        "tensor lm_head.weight is missing from the checkpoint, and config.json says that the embedding is not the output matrix \
         (`tie_word_embeddings` is false); copy the checkpoint again, or set it to true if the model \
         was trained so"
    )]
    NoHead,
    /// The adapter cannot be merged.
    #[error(transparent)]
    Adapter(Box<AdapterError>),
}

impl From<AdapterError> for WeightsError {
    fn from(error: AdapterError) -> Self {
        Self::Adapter(Box::new(error))
    }
}
