//! What can go wrong while MLX is prepared, and what to type then.

use std::io;

use crate::error::StepError;

/// Why MLX could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum MlxError {
    /// Another system.
    #[error(
        "MLX is prepared here for x86-64 Linux only; on a Mac nothing is to be prepared: cargo build --features mlx"
    )]
    NotHere,
    /// mlx-sys is not in the lock file's graph, or not where cargo says.
    #[error("cargo metadata does not name the mlx-sys package: {0}")]
    NoSource(String),
    /// mlx-sys wants another MLX than the one whose wheels are known here.
    #[error(
        "mlx-sys {sys} is made for MLX {wanted}, and xtask knows the wheels of MLX {known}; \
         put the new version and its hashes into xtask/src/mlx/wheel.rs"
    )]
    Version {
        /// The package's version.
        sys: String,
        /// MLX's version that it pins.
        wanted: String,
        /// The version that is known here.
        known: &'static str,
    },
    /// No Python with pip.
    #[error(
        "no Python with pip was found, which fetches libmlx; type: apt-get install python3-pip \
         (or name one: PYTHON=/path/to/python3 cargo xtask mlx …)"
    )]
    NoPip,
    /// No C++ compiler.
    #[error(
        "no C++20 compiler was found: {tool} does not start ({source}); type: apt-get install g++ \
         (or name one: CXX=/path/to/g++ cargo xtask mlx …)"
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
    /// A step of it failed.
    #[error(transparent)]
    Step(#[from] StepError),
}
