//! What can go wrong in any step: a program that does not start or fails, a file that cannot be read or written.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::steps::line;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A program does not start.
    #[error("{program} does not start: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
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
        /// What the system said.
        source: io::Error,
    },
}

impl StepError {
    /// `command` did not start.
    pub fn start(command: &Command, source: io::Error) -> Self {
        Self::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        }
    }

    /// `command` ran and failed.
    pub fn failed(command: &Command) -> Self {
        Self::Failed(line(command))
    }

    /// For `map_err` on a file operation.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::File { path, source }
    }
}
