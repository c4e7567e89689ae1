//! Why a command failed: one line with the cause and the fix.

use std::io;
use std::path::{Path, PathBuf};

use sanctum_config::{BadName, FleetError, NoHome};
use sanctum_manifest::{KeyError, ManifestError};

/// What to do about a file with other contents than it should have.
pub(crate) const RESTORE: &str = "restore it from a backup, or issue it again";

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// fleet.toml cannot be used.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The home folder cannot be found.
    #[error(transparent)]
    NoHome(#[from] NoHome),
    /// The command needs fleet.toml, and no file was named.
    #[error(
        "this command needs fleet.toml, and there is none in this folder; name the file: --config FILE"
    )]
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
    #[error("cannot write {}: {source}; no existing file was changed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has the wrong content.
    #[error("{} is not {what}: {why}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The expected content.
        what: &'static str,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// A file or folder exists that must not be overwritten.
    #[error("{} already exists; {fix}", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
        /// What to do.
        fix: String,
    },
    /// There is no CA here.
    #[error(
        "there is no CA in {}: {} is missing; create one with `sanctum-pki init`, or run this on the machine that has the CA",
        folder.display(), missing.display()
    )]
    NoAuthority {
        /// The folder that was searched.
        folder: PathBuf,
        /// The missing file.
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
        /// What uses it, and what to do.
        why: String,
    },
    /// The name is unknown.
    #[error("{what} `{name}`{near}; run `sanctum-pki list` for the names")]
    Unknown {
        /// "there is no …".
        what: &'static str,
        /// The name.
        name: String,
        /// "; did you mean …?", or nothing.
        near: String,
    },
    /// A section of fleet.toml cannot be used for a certificate.
    #[error("fleet.toml, [{section}]: {why}")]
    Section {
        /// The section.
        section: String,
        /// What is wrong with it, and what to write instead.
        why: String,
    },
    /// The command would do harm or nothing.
    #[error("{0}")]
    Refused(String),
    /// A certificate or list cannot be created.
    #[error("cannot create the certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A manifest cannot be created, or the folder does not match it.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A manifest's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system has no random bytes.
    #[error("the system has no random bytes: {0}")]
    NoRandomness(#[from] getrandom::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl PkiError {
    /// Whether the reader of the output has closed the pipe.
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
