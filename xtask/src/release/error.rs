//! Errors of a release.

use std::path::PathBuf;

use crate::error::StepError;

/// Why there is no release.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReleaseError {
    /// The version is not that of the programs.
    #[error(
        "the programs have version {ours}, and the release would be `{version}`; set `version` in Cargo.toml first, or add a \
         suffix: {ours}-rc.1"
    )]
    Version {
        /// The release's version.
        version: String,
        /// The workspace's.
        ours: &'static str,
    },
    /// A program is not there.
    #[error("{} is missing; build it first, or leave --programs out", .0.display())]
    Missing(PathBuf),
    /// A URL that cannot be in a formula.
    #[error("`{0}` cannot be in a formula; write a URL without quotes, backslashes, # and spaces")]
    Url(String),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
}
