//! Small JSON files that remember something: how they are read and written.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{atomic, files};

/// Larger than any record can become; such a file is something else.
const LARGEST: u64 = 16 << 20;

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system refuses to read it.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{} is damaged ({why}); move it away and run the last command again", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and how.
        why: String,
    },
    /// The system refuses to write it.
    #[error("cannot write {}: {source}; what was there before is still there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads a record; none if the file is not there.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let failed = |source| RecordError::Read {
        path: path.to_owned(),
        source,
    };
    let form = |why| RecordError::Form {
        path: path.to_owned(),
        why,
    };
    let bytes = match files::read_own(path, LARGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(bytes) => bytes,
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| form(error.to_string()))
}

/// Writes a record, for its owner to read only, in lines that a person can read too.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), RecordError> {
    let failed = |source| RecordError::Write {
        path: path.to_owned(),
        source,
    };
    let mut bytes = serde_json::to_vec_pretty(record)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    bytes.push(b'\n');
    atomic::write(path, &bytes, 0o600).map_err(failed)
}
