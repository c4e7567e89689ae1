//! Why the check for macOS found faults or could not be run.

use crate::error::StepError;
use crate::mlx::MlxError;

/// Why the check for macOS failed.
#[derive(Debug, thiserror::Error)]
pub enum MacosError {
    /// Another system.
    #[error(
        "this checks for macOS on x86-64 Linux only; on a Mac type: cargo clippy --workspace --all-targets -- -D warnings"
    )]
    NotLinux,
    /// The standard library for the target cannot be made: nothing was checked. Has an exit code of its own.
    #[error(
        "macOS is NOT checked: the source of Rust {release}'s standard library cannot be had: {reason}; \
         install it with: rustup target add aarch64-apple-darwin"
    )]
    NoSource {
        /// rustc's version.
        release: String,
        /// What was tried.
        reason: String,
    },
    /// rustc does not say what it is.
    #[error("{program} -vV names no release: {output:?}")]
    Rustc {
        /// The compiler.
        program: String,
        /// What it printed.
        output: String,
    },
    /// MLX's bindings cannot be made.
    #[error(transparent)]
    Mlx(#[from] MlxError),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
}
