//! Why something cannot be read from a host, or done to it: one line with the cause and the fix.

use std::io;
use std::path::{Path, PathBuf};

use sanctum_config::record::RecordError;
use sanctum_config::{FleetError, HomeError, NoHome};

use crate::command::CommandError;
use crate::launchctl::LaunchctlError;
use crate::lease::LeaseError;
use crate::stopped::StoppedError;

/// Why something cannot be read from a host, or done to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// fleet.toml cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The fleet's home cannot be found.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A path begins with `~` and there is no home folder.
    #[error(transparent)]
    NoHome(#[from] NoHome),
    /// A record of an earlier command cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// launchctl failed.
    #[error(transparent)]
    Launchctl(#[from] LaunchctlError),
    /// Another command holds the maintenance lease, or the lease cannot be used.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The record of stopped agents cannot be changed.
    #[error(transparent)]
    Stopped(#[from] StoppedError),
    /// A program could not be run, or did not finish.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file cannot be written. Files are replaced by renaming, so the old one is intact.
    #[error("cannot write {}: {source}; the previous file is unchanged", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is impossible, or would do harm: the message says why and what to do.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// A file that cannot be read.
    pub fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Read { path, source }
    }

    /// A file that cannot be written.
    pub fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Write { path, source }
    }
}
