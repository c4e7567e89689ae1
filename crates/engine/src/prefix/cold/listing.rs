//! A cache folder from outside: what is in it, and its removal.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sanctum_config::{FileLock, atomic, cache_dir};

use super::error::ColdError;
use super::file::Header;
use super::folder::{ColdFolder, process};
use super::found::{ColdFile, FoundFiles, named};

/// What is in a cache folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColdListing {
    /// The usable prefixes, the most recently used first.
    pub prefixes: Vec<ListedPrefix>,
    /// Files that are damaged, of another format, or continue a prefix that is missing.
    pub unusable: usize,
    /// Files that the system did not read.
    pub unread: usize,
    /// The process that serves from the folder; none if no process does. 0 if its number is not known.
    pub process: Option<u32>,
}

/// A prefix in a cache folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPrefix {
    /// The hash of fingerprint, scope and tokens, in hexadecimal digits.
    pub key: String,
    /// Of the model, the adapter, the backend and the program, in hexadecimal digits.
    pub fingerprint: String,
    /// Within which prefixes are shared, in hexadecimal digits.
    pub scope: String,
    /// Tokens of the prefix.
    pub tokens: usize,
    /// Tokens of the prefix that it continues.
    pub parent_tokens: usize,
    /// Bytes of its file.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// Reads what is in a cache folder, without changing it. A folder that is missing is empty.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(folder: &Path) -> Result<ColdListing, ColdError> {
    let failed = |source| ColdError::folder(folder, source);
    if !folder.try_exists().map_err(failed)? {
        return Ok(ColdListing::default());
    }
    let mut found = FoundFiles::read(folder).map_err(failed)?;
    found
        .usable
        .sort_by_key(|(used, header)| std::cmp::Reverse((*used, header.key)));
    let is_used = FileLock::is_held(&folder.join(cache_dir::LOCK));
    Ok(ColdListing {
        prefixes: found.usable.into_iter().map(listed).collect(),
        unusable: found.damaged.len() + found.orphans.len(),
        unread: found.unread.len(),
        process: is_used.then(|| process(folder).unwrap_or(0)),
    })
}

/// Removes all cached prefixes of a folder that no process serves from; returns their number and bytes.
///
/// # Errors
/// If a process serves from the folder, or a file cannot be removed.
pub fn clear(folder: &Path) -> Result<(usize, u64), ColdError> {
    let failed = |source| ColdError::folder(folder, source);
    if !folder.try_exists().map_err(failed)? {
        return Ok((0, 0));
    }
    let taken = ColdFolder::take_within(folder, Duration::ZERO)?;
    let (mut files, mut bytes) = (0, 0);
    for ColdFile { path, .. } in named(folder).map_err(failed)? {
        let about = fs::symlink_metadata(&path).map_err(failed)?;
        if about.is_dir() {
            continue;
        }
        fs::remove_file(&path).map_err(failed)?;
        files += 1;
        bytes += about.len();
    }
    atomic::remove(&taken.path().join(cache_dir::PROCESS)).map_err(failed)?;
    Ok((files, bytes))
}

fn listed((used, header): (SystemTime, Header)) -> ListedPrefix {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    ListedPrefix {
        key: header.key.to_string(),
        fingerprint: hex(&header.fingerprint),
        scope: hex(&header.scope),
        tokens: header.len,
        parent_tokens: header.from(),
        bytes: header.file_bytes(),
        used,
    }
}
