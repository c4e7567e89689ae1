//! Where a model comes from.

use std::fmt;
use std::path::PathBuf;

use sanctum_manifest::{Expected, ManifestError, Verification};

use super::checkpoint::Files;
use super::embedded;
use super::random::Shape;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
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

impl ModelSource {
    /// Whether its files must match a manifest before the model is served.
    pub fn is_verified(&self) -> bool {
        matches!(self, ModelSource::Verified { .. })
    }

    /// The files of a source. If a manifest lists them, their verification has started.
    pub(super) fn files(&self) -> Result<(Files, Option<Verification>), ManifestError> {
        Ok(match self {
            ModelSource::Folder(folder) => (Files::Folder(folder.clone()), None),
            ModelSource::Verified { folder, expected } => {
                let verification = Verification::start(folder, expected)?;
                (Files::Verified(verification.files()), Some(verification))
            }
            ModelSource::Embedded | ModelSource::Shape(_) => (embedded::files(), None),
        })
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelSource::Folder(folder) | ModelSource::Verified { folder, .. } => {
                write!(f, "{}", folder.display())
            }
            ModelSource::Embedded => f.write_str("the built-in model"),
            ModelSource::Shape(shape) => write!(f, "random weights of shape {shape}"),
        }
    }
}
