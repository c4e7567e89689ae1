//! Why a cache folder cannot be used.

use std::io;
use std::path::PathBuf;

/// A cache folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// The folder cannot be read or written.
    #[error("cannot use the cache folder {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process serves from the folder.
    #[error(
        "the cache folder {} is in use by {}; stop it, or give this server another cache_dir",
        folder.display(),
        holder(*process)
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The number of the process, if it has been written already.
        process: Option<u32>,
    },
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(
        || "another process".to_owned(),
        |process| format!("process {process}"),
    )
}
