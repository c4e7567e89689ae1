//! The cache folder: whose it is, who serves from it, and the files in it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sanctum_config::atomic::{self, Staged};
use sanctum_config::{FileLock, cache_dir, files, quoted_file};

use super::error::ColdError;
use super::file::BadFile;
use super::found::FoundFiles;
use super::index::Index;
use super::key::ColdKey;
use super::status::ColdStatus;

/// A server that was just stopped may still hold the lock.
const PATIENCE: Duration = Duration::from_secs(2);

/// A folder that this process has taken.
#[derive(Debug)]
pub(super) struct ColdFolder {
    path: PathBuf,
    /// None if the folder was removed or replaced, and could not be taken again.
    lock: Mutex<Option<FileLock>>,
    /// Files that were to be removed while the folder was not this process's.
    left: Mutex<Vec<PathBuf>>,
    status: Arc<ColdStatus>,
}

impl ColdFolder {
    /// Takes the folder for this process, creates it if it is missing, and removes what killed processes were writing.
    pub(super) fn take(path: &Path) -> Result<Self, ColdError> {
        Self::take_within(path, PATIENCE)
    }

    pub(super) fn take_within(path: &Path, patience: Duration) -> Result<Self, ColdError> {
        let failed = |source| ColdError::folder(path, source);
        if !path.try_exists().map_err(failed)? {
            atomic::folder_for_owner(path).map_err(failed)?;
        }
        let folder = Self {
            path: path.to_owned(),
            lock: Mutex::new(Some(locked(path, patience)?)),
            left: Mutex::default(),
            status: Arc::default(),
        };
        folder.sweep().map_err(failed)?;
        Ok(folder)
    }

    /// Whether what is at the path is the folder whose lock this process holds. It may have been removed or replaced, and
    /// another process may serve from what is there now.
    ///
    /// # Errors
    /// If the system does not say what is there.
    pub(super) fn is_taken(&self) -> io::Result<bool> {
        match &*self.lock() {
            Some(lock) => lock.is_at(&self.path.join(cache_dir::LOCK)),
            None => Ok(false),
        }
    }

    /// Takes what is at the path now, and returns the prefixes in it. A folder that is missing is created, but none above it:
    /// that would be a volume that is not mounted.
    pub(super) fn retake(&self) -> Result<Index, ColdError> {
        let failed = |source| ColdError::folder(&self.path, source);
        *self.lock() = None;
        let above = self.path.parent();
        if let Some(above) = above.filter(|above| !above.as_os_str().is_empty()) {
            fs::metadata(above).map_err(|error| {
                let text = format!(
                    "{}: {error}; mount its volume, or create it",
                    above.display()
                );
                failed(io::Error::new(error.kind(), text))
            })?;
        }
        if !self.path.try_exists().map_err(failed)? {
            atomic::folder_for_owner(&self.path).map_err(failed)?;
        }
        *self.lock() = Some(locked(&self.path, Duration::ZERO)?);
        self.remove_left();
        let index = self.sweep().and_then(|()| self.load());
        if index.is_err() {
            *self.lock() = None;
        }
        index.map_err(failed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<FileLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn status(&self) -> &Arc<ColdStatus> {
        &self.status
    }

    /// The place of a prefix's file.
    pub(super) fn file(&self, key: ColdKey) -> PathBuf {
        self.path.join(cache_dir::prefix_name(&key.to_string()))
    }

    /// Writes bytes that are no prefix; dropping the file removes it. It is named like a prefix that is being written, so the
    /// next start removes it if this process is killed meanwhile.
    pub(super) fn probe(&self, mut bytes: &[u8]) -> io::Result<Staged> {
        atomic::stage(&self.file(ColdKey([0; 32])), &mut bytes, 0o600)
    }

    /// Checks that a file of this size can be written.
    pub(super) fn can_hold(&self, bytes: u64) -> io::Result<()> {
        drop(self.probe(&[0; 512])?);
        let volume = rustix::fs::statvfs(&self.path)?;
        match volume.f_bavail.saturating_mul(volume.f_frsize) < bytes {
            true => Err(rustix::io::Errno::NOSPC.into()),
            false => Ok(()),
        }
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

    /// Reads the headers of all prefixes; removes and logs the files that are not usable. Files that the system does not
    /// read stay, and are no prefixes.
    pub(super) fn load(&self) -> io::Result<Index> {
        let found = FoundFiles::read(&self.path)?;
        let folder = self.path.display();
        let mut versions = 0;
        for (path, damage) in &found.damaged {
            match damage {
                BadFile::Version(_) => {
                    versions += 1;
                    self.remove_file(path);
                }
                damage => self.discard(path, damage),
            }
        }
        if versions > 0 {
            tracing::info!(%folder, "removed {versions} cached prefixes of another version");
        }
        for key in &found.orphans {
            self.remove(*key);
        }
        if !found.orphans.is_empty() {
            let count = found.orphans.len();
            tracing::warn!(%folder, "removed {count} cached prefixes that continue a missing one");
        }
        if let Some((path, error)) = found.unread.first() {
            let (count, file) = (found.unread.len(), path.display());
            self.status.count(count as u64);
            tracing::warn!(
                %file,
                "cannot read {count} cached prefixes, this one first: {error}; they stay, and the next start tries them again"
            );
        }
        Ok(found.index)
    }

    /// Removes a file that is not usable, and logs why.
    pub(super) fn discard(&self, path: &Path, damage: &BadFile) {
        let file = path.display();
        tracing::warn!(%file, "removes a cached prefix: {damage}; its tokens are computed again");
        self.remove_file(path);
    }

    /// Removes a prefix's file.
    pub(super) fn remove(&self, key: ColdKey) {
        self.remove_file(&self.file(key));
    }

    /// Removes the files that were to be removed while the folder was not this process's, as it is again: no index counts them.
    pub(super) fn remove_left(&self) {
        let left = std::mem::take(&mut *self.left());
        left.iter().for_each(|path| self.remove_file(path));
    }

    fn left(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_file(&self, path: &Path) {
        // In another folder it may be another process's.
        if !matches!(self.is_taken(), Ok(true)) {
            self.left().push(path.to_owned());
            return;
        }
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
            && let Some(left_out) = self.status.failed()
        {
            let file = path.display();
            tracing::warn!(%file, left_out, "cannot remove a cached prefix: {error}; remove it by hand");
        }
    }
}

/// Takes the lock of a folder, and writes which process has it.
fn locked(path: &Path, patience: Duration) -> Result<FileLock, ColdError> {
    let failed = |source| ColdError::folder(path, source);
    is_private_folder(path).map_err(failed)?;
    let lock = FileLock::take(&path.join(cache_dir::LOCK), patience).map_err(failed)?;
    let lock = lock.ok_or_else(|| ColdError::InUse {
        folder: path.to_owned(),
        process: process(path),
    })?;
    let number = std::process::id().to_string();
    let file = path.join(cache_dir::PROCESS);
    atomic::write(&file, number.as_bytes(), 0o600).map_err(failed)?;
    Ok(lock)
}

/// The number of the process that took the folder last.
pub(super) fn process(folder: &Path) -> Option<u32> {
    let number = files::read_text(&folder.join(cache_dir::PROCESS), 20).ok()?;
    number.parse().ok()
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
            quoted_file(path)
        )),
    }
}
