//! Why a command failed: one line with the cause and the fix.

use std::io;
use std::path::Path;

use sanctum_config::record::RecordError;
use sanctum_config::{FleetError, HomeError, Label, NoHome};
use sanctum_host::StoppedError;
use sanctum_host::launchctl::LaunchctlError;
use sanctum_host::lease::LeaseError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something cannot be read from the host, or done to it.
    #[error(transparent)]
    Host(#[from] sanctum_host::Error),
    /// The new state failed its checks, and the previous one is in place again.
    #[error("{what} was rolled back: {why}; {now}")]
    RolledBack {
        /// `upgrade of release 0.3.0`.
        what: String,
        /// Why it failed.
        why: String,
        /// What is installed now.
        now: String,
    },
    /// `verify` or `status` has printed this number of problems.
    #[error("{}", problems(*.0))]
    Problems(usize),
    /// The command failed on another host, which has printed why.
    #[error("the command failed on {host}; see above. To try it by hand: {next}")]
    Remote {
        /// The host.
        host: Label,
        /// The exit code of this command.
        code: u8,
        /// The command line that does the same.
        next: String,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

fn problems(count: usize) -> String {
    match count {
        1 => "1 problem was found; see above".to_owned(),
        _ => format!("{count} problems were found; see above"),
    }
}

/// Errors that [`sanctum_host::Error`] wraps.
macro_rules! through_host {
    ($($error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::Host(error.into())
            }
        })*
    };
}

through_host!(
    FleetError,
    HomeError,
    NoHome,
    RecordError,
    LaunchctlError,
    LeaseError,
    StoppedError
);

impl Error {
    /// Whether the reader of standard output has closed it, as `head` does.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The process's exit code; `sanctum-launchd --help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::RolledBack { .. } => 3,
            Self::Remote { code, .. } => *code,
            _ => 1,
        }
    }

    /// It is impossible, or would do harm: the message says why and what to do.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Host(sanctum_host::Error::Refused(message.into()))
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Host(sanctum_host::Error::read(path, source))
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Host(sanctum_host::Error::write(path, source))
    }
}
