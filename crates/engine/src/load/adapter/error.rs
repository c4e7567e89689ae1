//! Why an adapter cannot be merged.

use safetensors::Dtype;

use super::AdapterName;
use crate::load::checkpoint::CheckpointError;
use sanctum_manifest::ManifestError;

/// Why an adapter cannot be merged into a model.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// There are no weights in a supported layout, or in both.
    #[error(
        "it must hold adapters.safetensors (mlx-lm) or adapter_model.safetensors (PEFT), one of them, beside adapter_config.json; \
         the folder of {0} has {1}"
    )]
    AdapterLayout(AdapterName, &'static str),
    /// There are weights, but no settings.
    #[error("the folder of {0} has no adapter_config.json; save it in the folder of the weights")]
    NoConfig(AdapterName),
    /// A file changed while it was read.
    #[error(
        "{0} changed while it was read; try again when the training has saved it, or keep the adapters to be served in another folder"
    )]
    Changing(&'static str),
    /// A file cannot be read, or is damaged.
    #[error(transparent)]
    Files(#[from] CheckpointError),
    /// It does not match its manifest.
    #[error(transparent)]
    Manifest(#[from] Box<ManifestError>),
    /// `adapter_config.json` is not as it must be.
    #[error("adapter_config.json: {field} {problem}")]
    Config {
        /// The field, as a path.
        field: String,
        /// What is wrong, and what would do.
        problem: String,
    },
    /// It needs something that is not supported.
    #[error("adapter_config.json: {field} is {value}, which is not supported; {fix}")]
    Unsupported {
        /// The field.
        field: String,
        /// What it says.
        value: String,
        /// What to do.
        fix: &'static str,
    },
    /// A tensor is not half of a pair.
    #[error("tensor {tensor} in {file} is {what}, which is not supported; {fix}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// The file.
        file: &'static str,
        /// What it is.
        what: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// One half of a pair is not there.
    #[error("tensor {tensor} in {file} has no partner {missing}; export the adapter again")]
    Half {
        /// The half that is there.
        tensor: String,
        /// The file.
        file: &'static str,
        /// The half that is not.
        missing: String,
    },
    /// Two pairs are for one module.
    #[error(
        "tensors {first} and {second} in {file} are for the same module; remove one of the pairs"
    )]
    Twice {
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// The file.
        file: &'static str,
    },
    /// There is no pair.
    #[error(
        "{0} holds no pairs, so nothing would change; train the adapter, or serve the model without it"
    )]
    Empty(&'static str),
    /// A tensor has the wrong shape.
    #[error("tensor {tensor} in {file} has shape {found:?}, but {why} requires {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The file.
        file: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The right shape.
        expected: Vec<usize>,
        /// What requires it.
        why: &'static str,
    },
    /// A tensor has a type that is not supported.
    #[error("tensor {tensor} in {file} is stored as {found:?}; F32, F16 or BF16 is supported")]
    Type {
        /// The tensor.
        tensor: String,
        /// The file.
        file: &'static str,
        /// Its type.
        found: Dtype,
    },
    /// A tensor holds infinities or NaN.
    #[error("tensor {tensor} in {file} has values that are not finite; the training went wrong")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The file.
        file: &'static str,
    },
    /// Two patterns disagree about a module.
    #[error(
        "adapter_config.json: {field} has {first:?} and {second:?}, which both name {module} and disagree; keep one of them"
    )]
    Patterns {
        /// The field.
        field: &'static str,
        /// A key.
        first: String,
        /// Another.
        second: String,
        /// What both name.
        module: String,
    },
    /// The sum is too large for the type that the model's weights have.
    #[error(
        "merging tensor {tensor} in {file} leaves values that are not finite; the training went wrong, or its scale is too large"
    )]
    Overflow {
        /// The pair's first half.
        tensor: String,
        /// The file.
        file: &'static str,
    },
    /// A pair is for a module that the model does not have.
    #[error("the model has no matrix for tensor {tensor} in {file}{}; the adapter was trained for another model",
        if *others > 0 { format!(" and {others} more pairs") } else { String::new() })]
    NoPlace {
        /// The pair's first half.
        tensor: String,
        /// The file.
        file: &'static str,
        /// How many more there are.
        others: usize,
    },
    /// The model has random weights.
    #[error("random weights take no adapter; name a model")]
    Random,
}

impl AdapterError {
    /// The message for clients, without the server's folders and keys.
    pub fn message_for_clients(&self) -> String {
        match self {
            Self::Manifest(_) => {
                "it does not match its signed manifest; see the server's log".to_owned()
            }
            Self::Files(_) => {
                "its files cannot be read, or are damaged; see the server's log".to_owned()
            }
            error => error.to_string(),
        }
    }
}
