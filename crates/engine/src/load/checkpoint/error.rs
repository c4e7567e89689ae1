//! Why a checkpoint cannot be read.

use std::path::PathBuf;

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file that must be there is not.
    #[error(
        "{0} is missing; a checkpoint folder needs config.json, tokenizer.json and model.safetensors (or its shards with model.safetensors.index.json)"
    )]
    Missing(PathBuf),
    /// A file that must be there is not in the manifest, so that it was not opened.
    #[error(
        "{path} is needed and not listed in {manifest}; put it there and list it: sanctum-pki manifest create",
        path = path.display(), manifest = manifest.display()
    )]
    Unlisted {
        /// The file.
        path: PathBuf,
        /// The manifest.
        manifest: PathBuf,
    },
    /// A file could not be opened or mapped.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name says: damaged, truncated or of another format.
    #[error("{file} is damaged or not what its name says: {reason}; copy it again")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The index names a tensor that its shard lacks.
    #[error(
        "model.safetensors.index.json says that {shard} holds {tensor}, but it does not; copy both again"
    )]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The shard.
        shard: String,
    },
    /// Two tensors have the same name, once prefixes are removed.
    #[error("tensor {name} is there twice: in {first} and in {second}; remove one of the files")]
    Twice {
        /// The tensor.
        name: String,
        /// A file that holds it.
        first: String,
        /// Another.
        second: String,
    },
}
