//! Errors of reading the structure.

use std::io;
use std::path::PathBuf;

/// The structure cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HouseError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not valid Rust.
    #[error("cannot parse {}: {source}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// The parser's error.
        source: syn::Error,
    },
    /// A module has no file beside its folder.
    #[error("{} does not exist, and a `mod` declares it; rename a `mod.rs` to its folder's name, beside the folder", file.display())]
    NoModule {
        /// `name.rs`.
        file: PathBuf,
    },
    /// `cargo metadata` failed.
    #[error("`cargo metadata` failed: {0}")]
    Metadata(String),
    /// The page does not draw the arrows.
    #[error("{}: {problem}", page.display())]
    Page {
        /// docs/architecture.md.
        page: PathBuf,
        /// The problem.
        problem: String,
    },
}
