//! What keeps the structure from being read.

use std::io;
use std::path::PathBuf;

/// The structure cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// The system refuses to read a file.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is no Rust.
    #[error("cannot parse {}: {source}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: syn::Error,
    },
    /// A module without a file.
    #[error("neither {} nor {} exists, and a `mod` declares one of them", flat.display(), nested.display())]
    NoModule {
        /// `name.rs`.
        flat: PathBuf,
        /// `name/mod.rs`.
        nested: PathBuf,
    },
    /// cargo does not describe the workspace.
    #[error("`cargo metadata` failed: {0}")]
    Metadata(String),
    /// The page does not draw the arrows.
    #[error("{}: {problem}", page.display())]
    Page {
        /// docs/architecture.md.
        page: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}
