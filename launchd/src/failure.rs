//! Why a command was not carried out: one line with the cause and the mend.

use std::io;
use std::path::{Path, PathBuf};

use sanctum_config::record::RecordError;
use sanctum_config::{FleetError, HomeError, NoHome};
use sanctum_host::launchctl::LaunchctlError;
use sanctum_host::lease::LeaseError;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
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
    /// launchd refuses.
    #[error(transparent)]
    Launchctl(#[from] LaunchctlError),
    /// Somebody else maintains this host.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; what was there before is still there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be done, or would do harm.
    #[error("{0}")]
    Refused(String),
    /// A new release did not do, and the one before it runs again.
    #[error("{what} was taken back: {why}; {now}")]
    TakenBack {
        /// "release 0.3.0".
        what: String,
        /// Why it did not do.
        why: String,
        /// What runs now.
        now: String,
    },
    /// `verify` found something. It has been said already.
    #[error("{0} of the findings above need somebody")]
    Found(usize),
    /// What was to be said cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Whether the only thing wrong is that nobody reads our output any more.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What the process exits with; `sanctum-launchd --help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::TakenBack { .. } => 3,
            _ => 1,
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Write { path, source }
    }
}
