//! Why an adapter cannot be merged.

use safetensors::Dtype;

use super::AdapterName;
use crate::checkpoint::CheckpointError;
use crate::manifest::ManifestError;

/// Why an adapter cannot be merged into a model. None of them names a folder: they are told to clients.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// There are no weights in a layout that is read here, or in both.
    #[error(
        "it must hold adapters.safetensors (mlx-lm) or adapter_model.safetensors (PEFT), one of them, beside adapter_config.json; \
         the folder of {0} has {1}"
    )]
    Layout(AdapterName, &'static str),
    /// A file is missing, unlisted or damaged.
    #[error(transparent)]
    Files(#[from] CheckpointError),
    /// It is not what its manifest says.
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
    /// It asks for something that merging pairs does not do.
    #[error(
        "adapter_config.json: {field} is {value}, which is not done here and would be missed; {mend}"
    )]
    Unsupported {
        /// The field.
        field: String,
        /// What it says.
        value: String,
        /// What to do.
        mend: &'static str,
    },
    /// A tensor is no half of a pair.
    #[error("tensor {tensor} in {file} is {what}, which is not merged here; {mend}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// The file.
        file: &'static str,
        /// What it is.
        what: &'static str,
        /// What to do.
        mend: &'static str,
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
    /// There is not one pair.
    #[error(
        "{0} holds no pair at all, so nothing would change; train the adapter, or do without it"
    )]
    Empty(&'static str),
    /// A tensor has the wrong shape.
    #[error("tensor {tensor} in {file} has shape {found:?}, but {why} asks for {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The file.
        file: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The right shape.
        expected: Vec<usize>,
        /// Who says so.
        why: &'static str,
    },
    /// A tensor has a type that is not read here.
    #[error("tensor {tensor} in {file} is stored as {found:?}; F32, F16 or BF16 is supported")]
    Type {
        /// The tensor.
        tensor: String,
        /// The file.
        file: &'static str,
        /// Its type.
        found: Dtype,
    },
    /// A tensor holds infinities or no numbers at all.
    #[error("tensor {tensor} in {file} has values that are not finite; the training went wrong")]
    NotFinite {
        /// The tensor.
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
    /// The model has no weights that something could be merged into.
    #[error("random weights take no adapter; name a model")]
    Random,
}
