//! Errors of any step: a program that does not start or fails, a file that cannot be read or written.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::command_line::command_line;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// A program does not start.
    #[error("{program} does not start: {source}")]
    Start {
        /// The program.
        program: String,
        /// The system's error.
        source: io::Error,
    },
    /// A program failed; its own messages are on the terminal.
    #[error("this command failed; its messages are above:\n  {0}")]
    Failed(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl StepError {
    /// `command` did not start.
    pub(crate) fn start(command: &Command, source: io::Error) -> Self {
        Self::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        }
    }

    /// `command` ran and failed.
    pub(crate) fn failed(command: &Command) -> Self {
        Self::Failed(command_line(command))
    }

    /// For `map_err` on a file operation.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}
