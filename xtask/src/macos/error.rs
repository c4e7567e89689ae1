//! Errors of the check for macOS.

use crate::error::StepError;
use crate::mlx::MlxError;

/// Why the check for macOS failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MacosError {
    /// Not x86-64 Linux.
    #[error(
        "`cargo xtask macos` runs on x86-64 Linux only; on a Mac run: cargo clippy --workspace --all-targets -- -D warnings"
    )]
    NotLinux,
    /// The standard library's source is not available: nothing was checked. Has its own exit code.
    #[error(
        "macOS is NOT checked: the source of Rust {release}'s standard library is not available: {reason}; \
         install it with: rustup target add aarch64-apple-darwin"
    )]
    NoSource {
        /// rustc's version.
        release: String,
        /// The attempts and why each failed.
        reason: String,
    },
    /// The output of rustc has no version.
    #[error("{program} -vV names no release: {output:?}")]
    Rustc {
        /// The compiler.
        program: String,
        /// Its output.
        output: String,
    },
    /// MLX's bindings cannot be generated.
    #[error(transparent)]
    Mlx(#[from] MlxError),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
}
