//! Small JSON files: receipts, journals, leases, states. How all of them are read and written.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{atomic, files};

/// A larger file is not a record.
const LARGEST: u64 = 16 << 20;

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It does not parse.
    #[error("{} is damaged ({why}); move it away and run the last command again{}", path.display(), consequence(path))]
    Form {
        /// The file.
        path: PathBuf,
        /// The parser's message.
        why: String,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}; what was there before is still there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// What a host forgets with a record: the end of the sentence that says to move it away.
fn consequence(path: &Path) -> &'static str {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("receipt.json") => {
            " (without it this host counts as not installed: then run `sanctum-launchd install` with --host and --release)"
        }
        _ => "",
    }
}

/// Reads a record of this user; none if the file is not there.
///
/// # Errors
/// If the file cannot be read, is no regular file, belongs to another user, can be written by one, or does not parse.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
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

/// Writes a record as indented JSON with mode 0600, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), RecordError> {
    let failed = |source| RecordError::Write {
        path: path.to_owned(),
        source,
    };
    let mut bytes = serde_json::to_vec_pretty(record)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    bytes.push(b'\n');
    atomic::write(path, &bytes, 0o600).map_err(failed)
}
