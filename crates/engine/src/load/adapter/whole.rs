//! An adapter's files, read as a whole.
//!
//! A model's weights are mapped, since they are replaced by renaming. Training writes adapters repeatedly, often into the same
//! file, and truncating a mapped file ends the process. So adapters are copied, and a file that changed meanwhile is refused
//! instead of merged half old and half new.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{AdapterError, AdapterSource};
use crate::load::checkpoint::{CheckpointError, Files};
use sanctum_manifest::Bytes;
use sanctum_manifest::{FileStamp, read_whole};

/// The files of the adapter in this folder.
pub(super) fn read(folder: &Path) -> Result<Files, AdapterError> {
    let mut files = BTreeMap::new();
    for name in AdapterSource::FILES {
        let path = folder.join(name);
        match whole(&path) {
            Ok(Some(bytes)) => files.insert(name.to_owned(), Bytes::new(bytes)),
            Ok(None) => return Err(AdapterError::Changing(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => None,
            Err(source) => return Err(CheckpointError::Io { path, source }.into()),
        };
    }
    Ok(Files::Memory(files))
}

/// The same for files that are being verified, which detects changes.
pub(super) fn copied(verified: &Files) -> Result<Files, AdapterError> {
    let mut files = BTreeMap::new();
    for name in AdapterSource::FILES {
        if let Some(mapped) = verified.open(name)? {
            files.insert(name.to_owned(), Bytes::new(mapped.to_vec()));
        }
    }
    Ok(Files::Memory(files))
}

/// A file's content; none if it changed while it was read.
fn whole(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = sanctum_config::files::open(path)?;
    let before = FileStamp::before_reading(&file.metadata()?);
    let bytes = read_whole(&file, before.size())?;
    let same = FileStamp::of(&file.metadata()?) == before && bytes.len() as u64 == before.size();
    Ok(same.then_some(bytes))
}
