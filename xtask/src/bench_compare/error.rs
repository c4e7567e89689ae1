//! Errors of a comparison.

use std::path::PathBuf;

use crate::error::StepError;

/// Why nothing was compared or rendered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// A program does not start, or a file cannot be read or written.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A path of the command line does not exist.
    #[error(
        "{flag} {}: there is no such {kind}; correct the path, or leave out the programs that need it", path.display()
    )]
    Missing {
        /// The option.
        flag: &'static str,
        /// Its value.
        path: PathBuf,
        /// A file or a folder.
        kind: &'static str,
    },
    /// A llama-bench of the other project.
    #[error("{flag} {} is the llama-bench of {other}: name it with {right}", program.display())]
    OtherFork {
        /// The option.
        flag: &'static str,
        /// Its value.
        program: PathBuf,
        /// The project that the program is from.
        other: &'static str,
        /// The option for that project.
        right: &'static str,
    },
    /// A program failed.
    #[error("this command failed ({status}):\n  {command}\nIts last lines:\n  {lines}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// The end of its standard error.
        lines: String,
    },
    /// The output of a program is not what was expected.
    #[error(
        "cannot use what {program} printed: {why}\nRun the command alone to see it:\n  {command}"
    )]
    Output {
        /// The program's name.
        program: &'static str,
        /// The command.
        command: String,
        /// The reason.
        why: String,
    },
    /// A line of the file is not a row.
    #[error(
        "{}:{line}: {why}; correct or remove the line", file.display()
    )]
    Row {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The reason.
        why: serde_json::Error,
    },
    /// The page has no place for the table.
    #[error("{} lacks one of the lines between which the table is written; add them:\n{begin}\n{end}", page.display())]
    NoMarkers {
        /// docs/performance.md.
        page: PathBuf,
        /// The line before the table.
        begin: &'static str,
        /// The line after it.
        end: &'static str,
    },
}
