//! Why a watchdog does not start, or stops.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use sanctum_config::{FleetError, HomeError, Label, RecordError};

use crate::alert::OutboxError;

/// Why a watchdog stops.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Its state cannot be written at its end.
    #[error(transparent)]
    State(#[from] RecordError),
    /// Its spool cannot be read.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// Why a watchdog does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MainError {
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("{} has no [watch.{name}]{near}; add it, or name another section with --name", config.display())]
    NoSection {
        config: PathBuf,
        name: Label,
        near: String,
    },
    #[error(
        "[watch.{name}] runs the check `{check}`, and this is sanctum-{own}; start sanctum-{check}"
    )]
    OtherCheck {
        name: Label,
        check: Label,
        own: Label,
    },
    #[error("[watch.{name}]: {why}")]
    Section { name: Label, why: String },
    #[error("no host runs [watch.{0}]; add it to the `agents` of one host")]
    NoHost(Label),
    #[error(
        "[watch.{name}] runs on the host {host}, and this is {here}, where its check would have another result; run it on \
         {host}{instead}"
    )]
    OtherHost {
        name: Label,
        host: Label,
        here: Label,
        instead: String,
    },
    #[error("another process runs the watchdog `{name}` (it holds {}); stop it first, or use another --name", path.display())]
    AlreadyRunning { name: Label, path: PathBuf },
    #[error("cannot lock {}: {source}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot start the runtime or handle signals: {0}")]
    System(io::Error),
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The work of [`crate::run_once`] failed.
    #[error("{0}")]
    Work(String),
}

impl From<RecordError> for MainError {
    fn from(error: RecordError) -> Self {
        Self::Watch(error.into())
    }
}

impl MainError {
    /// As [`crate::EXIT_CODES`] documents.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Lock { .. } | Self::System(_) | Self::Watch(_) => ExitCode::from(3),
            Self::Work(_) => ExitCode::FAILURE,
            _ => ExitCode::from(2),
        }
    }
}
