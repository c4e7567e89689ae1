//! The cache folder: whose it is, who serves from it, and the files in it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sanctum_config::{FileLock, atomic, cache_dir, files};

use super::error::ColdError;
use super::file::{self, Header};
use super::index::Index;
use super::key::ColdKey;

/// A server that was just stopped may still hold the lock.
const PATIENCE: Duration = Duration::from_secs(2);

/// A folder whose lock this process holds.
#[derive(Debug)]
pub(super) struct ColdFolder {
    path: PathBuf,
    _lock: FileLock,
}

/// What is in a cache folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColdListing {
    /// The usable prefixes, the most recently used first.
    pub prefixes: Vec<ListedPrefix>,
    /// Files that are damaged, of another format, or continue a prefix that is missing.
    pub unusable: usize,
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

/// A file of the folder that is named as one of a prefix.
struct ColdFile {
    path: PathBuf,
    key: ColdKey,
}

impl ColdFolder {
    /// Takes the folder for this process, creates it if it is missing, and removes what killed processes were writing.
    pub(super) fn take(path: &Path) -> Result<Self, ColdError> {
        Self::take_within(path, PATIENCE)
    }

    pub(super) fn take_within(path: &Path, patience: Duration) -> Result<Self, ColdError> {
        let failed = |source| ColdError::Folder {
            folder: path.to_owned(),
            source,
        };
        if !path.try_exists().map_err(failed)? {
            atomic::folder_for_owner(path).map_err(failed)?;
        }
        is_private_folder(path).map_err(failed)?;
        let lock = FileLock::take(&path.join(cache_dir::LOCK), patience).map_err(failed)?;
        let lock = lock.ok_or_else(|| ColdError::InUse {
            folder: path.to_owned(),
            process: owner(path),
        })?;
        let process = std::process::id().to_string();
        atomic::write(&path.join(cache_dir::PROCESS), process.as_bytes(), 0o600).map_err(failed)?;
        let folder = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        folder.sweep().map_err(failed)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The place of a prefix's file.
    pub(super) fn file(&self, key: ColdKey) -> PathBuf {
        self.path.join(cache_dir::prefix_name(&key.to_string()))
    }

    /// Removes the files that were being written when their process was killed. No other process writes here, so each one
    /// is such a file, whatever its process's number.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let is_staged = entry.file_name().to_str().is_some_and(cache_dir::is_staged);
            if is_staged && entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Reads the headers of all prefixes; removes and logs the files that are not usable.
    pub(super) fn load(&self) -> io::Result<Index> {
        let mut found = Vec::new();
        let mut versions = 0;
        for ColdFile { path, key } in named(&self.path)? {
            match file::open(&path, key) {
                Ok((_, header, used)) => found.push((used, header)),
                Err(file::BadFile::Version(_)) => {
                    versions += 1;
                    self.remove_file(&path);
                }
                Err(error) => self.discard(&path, &error),
            }
        }
        if versions > 0 {
            let folder = self.path.display();
            tracing::info!(%folder, "removed {versions} cached prefixes of another version");
        }
        found.sort_by_key(|(used, header)| (*used, header.len));
        let headers = found.into_iter().map(|(_, header)| header).collect();
        let (index, orphans) = Index::load(headers);
        for key in &orphans {
            self.remove(*key);
        }
        if !orphans.is_empty() {
            let (folder, count) = (self.path.display(), orphans.len());
            tracing::warn!(%folder, "removed {count} cached prefixes that continue a missing one");
        }
        Ok(index)
    }

    /// Removes a file that is not usable, and logs why.
    pub(super) fn discard(&self, path: &Path, error: &file::BadFile) {
        let file = path.display();
        tracing::warn!(%file, "removes a cached prefix: {error}; its tokens are computed again");
        self.remove_file(path);
    }

    /// Removes a prefix's file.
    pub(super) fn remove(&self, key: ColdKey) {
        self.remove_file(&self.file(key));
    }

    fn remove_file(&self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let file = path.display();
                tracing::warn!(%file, "cannot remove a cached prefix: {error}; remove it by hand");
            }
            _ => {}
        }
    }
}

/// Reads what is in a cache folder, without changing it. A folder that is missing is empty.
///
/// # Errors
/// If the folder cannot be read.
pub fn list(folder: &Path) -> Result<ColdListing, ColdError> {
    let failed = |source| ColdError::Folder {
        folder: folder.to_owned(),
        source,
    };
    if !folder.try_exists().map_err(failed)? {
        return Ok(ColdListing::default());
    }
    let mut unusable = 0;
    let mut found = Vec::new();
    for ColdFile { path, key } in named(folder).map_err(failed)? {
        match file::open(&path, key) {
            Ok((_, header, used)) => found.push((used, header)),
            // Evicted since the folder was read.
            Err(file::BadFile::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => unusable += 1,
        }
    }
    let headers = found.iter().map(|(_, header)| header.clone()).collect();
    let (index, orphans) = Index::load(headers);
    found.retain(|(_, header)| index.get(header.key).is_some());
    found.sort_by_key(|(used, header)| std::cmp::Reverse((*used, header.key)));
    Ok(ColdListing {
        prefixes: found.into_iter().map(listed).collect(),
        unusable: unusable + orphans.len(),
        process: FileLock::is_held(&folder.join(cache_dir::LOCK))
            .then(|| owner(folder).unwrap_or(0)),
    })
}

/// Removes all cached prefixes of a folder that no process serves from; returns their number and bytes.
///
/// # Errors
/// If a process serves from the folder, or a file cannot be removed.
pub fn clear(folder: &Path) -> Result<(usize, u64), ColdError> {
    let failed = |source| ColdError::Folder {
        folder: folder.to_owned(),
        source,
    };
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
    atomic::remove(&taken.path.join(cache_dir::PROCESS)).map_err(failed)?;
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

/// The files that are named as those of prefixes. Others are not touched.
fn named(folder: &Path) -> io::Result<Vec<ColdFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let key = name.to_str().and_then(cache_dir::prefix_key);
        if let Some(Ok(key)) = key.map(str::parse) {
            let path = entry.path();
            files.push(ColdFile { path, key });
        }
    }
    Ok(files)
}

/// The number of the process that took the folder last.
fn owner(folder: &Path) -> Option<u32> {
    files::read_text(&folder.join(cache_dir::PROCESS), 20)
        .ok()?
        .parse()
        .ok()
}

/// Checks that the folder belongs to this user, and that other users have no access.
fn is_private_folder(path: &Path) -> io::Result<()> {
    let about = fs::metadata(path)?;
    let us = rustix::process::geteuid().as_raw();
    let refused = |problem| Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    if !about.is_dir() {
        return refused("it is not a folder; name one that is empty or missing".to_owned());
    }
    if about.uid() != us {
        return refused(format!(
            "it belongs to user {} and this process runs as user {us}; name a folder of this user",
            about.uid()
        ));
    }
    match about.mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => refused(format!(
            "its mode is {mode:04o}, and the conversations in it are for this user only; type: chmod 700 {}",
            path.display()
        )),
    }
}
