//! The arguments of `sanctum-server cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sanctum_config::{Label, TildePath};

/// What to do with a cache folder.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the prefixes of conversations in a cache folder, the most recently used first
    List {
        /// The folder
        #[command(flatten)]
        place: CachePlace,
        /// One JSON object: prefixes, bytes, and the process that serves from the folder
        #[arg(long)]
        json: bool,
    },
    /// Remove all prefixes from a cache folder; refused while a server uses it
    Clear {
        /// The folder
        #[command(flatten)]
        place: CachePlace,
    },
}

/// A cache folder: by its path, or that of a server in fleet.toml.
#[derive(Debug, Args)]
pub(crate) struct CachePlace {
    /// The cache folder
    #[arg(required_unless_present = "config", conflicts_with = "config")]
    pub dir: Option<TildePath>,
    /// The fleet's file: take the cache_dir of a server in it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which [servers.NAME] of the file [default: the only one]
    #[arg(long, value_name = "NAME", requires = "config")]
    pub server: Option<Label>,
}
