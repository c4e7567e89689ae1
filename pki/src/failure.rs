//! Why a command was not carried out: one line with the cause and the mend.

use std::io;
use std::path::{Path, PathBuf};

use sanctum_config::{BadName, FleetError, NoHome};
use sanctum_manifest::{KeyError, ManifestError};

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// fleet.toml cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The home folder cannot be found.
    #[error(transparent)]
    NoHome(#[from] NoHome),
    /// The command is about the fleet, and no fleet was named.
    #[error("this command follows fleet.toml; name the file: --config fleet.toml")]
    NeedsFleet,
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; nothing that was there before is lost", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{} is not {what}: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why it is not, and what to do.
        why: String,
    },
    /// Something that must not be overwritten is there.
    #[error("{} is there already; {mend}", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
        /// What to do.
        mend: String,
    },
    /// There is no CA here.
    #[error(
        "there is no CA in {}: {} is missing; make one with `sanctum-pki init`, or work where the CA lives",
        folder.display(), missing.display()
    )]
    NoAuthority {
        /// The folder that was looked in.
        folder: PathBuf,
        /// What is not there.
        missing: PathBuf,
    },
    /// A name breaks its rule.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A name is taken or reserved.
    #[error("the name `{name}` cannot be used: {why}")]
    NameTaken {
        /// The name.
        name: String,
        /// By what, and what to do.
        why: String,
    },
    /// Nothing has that name.
    #[error("{what} `{name}`{near}; `sanctum-pki list` shows what there is")]
    Unknown {
        /// "there is no …".
        what: &'static str,
        /// The name.
        name: String,
        /// "; did you mean …?", or nothing.
        near: String,
    },
    /// A section of fleet.toml does not do for a certificate.
    #[error("fleet.toml, [{section}]: {why}")]
    Section {
        /// The section.
        section: String,
        /// What is wrong there and what to write instead.
        why: String,
    },
    /// A command would do harm or nothing.
    #[error("{0}")]
    Refused(String),
    /// A certificate or list cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// A manifest cannot be made or is not matched.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A manifest's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system has no random bytes.
    #[error("the system has no random bytes: {0}")]
    NoRandomness(#[from] getrandom::Error),
    /// What was to be said cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl PkiError {
    /// Whether the only thing wrong is that nobody reads our output any more.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Write { path, source }
    }

    pub(crate) fn form(path: &Path, what: &'static str, why: impl Into<String>) -> Self {
        Self::Form {
            path: path.to_owned(),
            what,
            why: why.into(),
        }
    }
}
