//! Where a model comes from.

use std::fmt;
use std::path::PathBuf;

use sanctum_manifest::{Expected, ManifestError, Verification};

use super::checkpoint::Files;
use super::embedded;
use super::random::Shape;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A checkpoint folder, as it is.
    Folder(PathBuf),
    /// A checkpoint folder that must match its manifest.
    Verified {
        /// The folder.
        folder: PathBuf,
        /// The manifest, and the keys that may have signed it.
        expected: Expected,
    },
    /// The tiny model that is compiled into the binary.
    Embedded,
    /// Random 4-bit weights of a production shape, for measurements.
    Shape(Shape),
}

impl Source {
    /// Whether its files must match a manifest before anything may be served.
    pub fn is_verified(&self) -> bool {
        matches!(self, Source::Verified { .. })
    }

    /// The files of a source that has some. Where a manifest lists them, its verification has begun.
    pub(super) fn files(&self) -> Result<(Files, Option<Verification>), ManifestError> {
        Ok(match self {
            Source::Folder(folder) => (Files::Folder(folder.clone()), None),
            Source::Verified { folder, expected } => {
                let verification = Verification::start(folder, expected)?;
                (Files::Verified(verification.files()), Some(verification))
            }
            Source::Embedded | Source::Shape(_) => (embedded::files(), None),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Folder(folder) | Source::Verified { folder, .. } => {
                write!(f, "{}", folder.display())
            }
            Source::Embedded => f.write_str("the built-in model"),
            Source::Shape(shape) => write!(f, "random weights of shape {shape}"),
        }
    }
}
