//! A lock file: one process at a time holds it, and the system releases it however that process ends.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::files;

/// A lock that this process holds; dropping it releases it.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock, and waits at most `limit` for the process that holds it. None if that process still holds it then.
    /// The file and its folder are created with modes 0600 and 0700; the file stays when the lock is released.
    ///
    /// # Errors
    /// If the file cannot be opened or locked.
    pub fn take(path: &Path, limit: Duration) -> io::Result<Option<Self>> {
        /// Between two attempts.
        const PAUSE: Duration = Duration::from_millis(5);
        let file = files::open_lock(path)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { file })),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= limit => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Takes the lock, however long another process holds it.
    ///
    /// # Errors
    /// As [`FileLock::take`].
    pub fn wait(path: &Path) -> io::Result<Self> {
        let file = files::open_lock(path)?;
        file.lock()?;
        Ok(Self { file })
    }

    /// Whether the file at `path` is the one that is locked: it may have been removed or replaced since, and then another
    /// process can take the lock at `path`.
    ///
    /// # Errors
    /// If the system does not say what is at `path`. A file that is missing is no error.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let locked = self.file.metadata()?;
        match std::fs::metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (locked.dev(), locked.ino())),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Whether a process holds the lock. A file that is missing or cannot be opened is not held; nothing is created.
    pub fn is_held(path: &Path) -> bool {
        // A shared lock fails only while another process holds the exclusive one.
        files::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_held_by_one_at_a_time_and_released_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/x.lock");
        assert!(!FileLock::is_held(&path));
        assert!(!path.exists(), "asking creates nothing");
        let held = FileLock::take(&path, Duration::ZERO).unwrap();
        assert!(held.is_some() && FileLock::is_held(&path));
        let moment = Duration::from_millis(20);
        assert!(FileLock::take(&path, moment).unwrap().is_none());
        drop(held);
        assert!(!FileLock::is_held(&path));
        drop(FileLock::wait(&path).unwrap());
        assert!(FileLock::take(&path, Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn lock_whose_file_was_removed_or_replaced_is_no_longer_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let (path, moved) = (state.join("x.lock"), folder.path().join("moved"));
        let held = FileLock::wait(&path).unwrap();
        assert!(held.is_at(&path).unwrap());
        std::fs::rename(&state, &moved).unwrap();
        assert!(!held.is_at(&path).unwrap());
        std::fs::write(&state, "").unwrap();
        assert!(!held.is_at(&path).unwrap());
        std::fs::remove_file(&state).unwrap();
        drop(FileLock::wait(&path).unwrap());
        assert!(!held.is_at(&path).unwrap());
        assert!(held.is_at(&moved.join("x.lock")).unwrap());
    }
}
