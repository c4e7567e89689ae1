//! Errors of preparing MLX, each with the command that fixes it.

use std::io;

use crate::error::StepError;

/// Why MLX could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MlxError {
    /// Not x86-64 Linux.
    #[error(
        "`cargo xtask mlx` runs on x86-64 Linux only; on a Mac run: cargo build --features mlx"
    )]
    NotHere,
    /// mlx-sys is not in the lock file's graph, or not where cargo says.
    #[error("cargo metadata does not name the mlx-sys package: {0}")]
    NoSource(String),
    /// mlx-sys pins another version of MLX than the one whose wheels are known here.
    #[error(
        "mlx-sys {sys} pins MLX {wanted}, but xtask has the hashes of MLX {known}; \
         put the new version and its hashes into xtask/src/mlx/wheel.rs"
    )]
    Version {
        /// The package's version.
        sys: String,
        /// MLX's version that it pins.
        wanted: String,
        /// The version whose hashes are known.
        known: &'static str,
    },
    /// No Python with pip.
    #[error(
        "no Python with pip was found, which fetches libmlx; run: apt-get install python3-pip \
         (or set PYTHON=/path/to/python3 cargo xtask mlx …)"
    )]
    NoPip,
    /// No C++ compiler.
    #[error(
        "no C++20 compiler was found: {tool} does not start ({source}); run: apt-get install g++ \
         (or set CXX=/path/to/g++ cargo xtask mlx …)"
    )]
    NoCompiler {
        /// What was tried.
        tool: String,
        /// What the system said.
        source: io::Error,
    },
    /// bindgen could not read mlx-c's headers.
    #[error("mlx-c's headers cannot be read: {0}")]
    Bindgen(#[from] bindgen::BindgenError),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
}
