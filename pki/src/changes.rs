//! The files that a command writes: all are prepared first, then renamed in order, or only printed.
//!
//! Each file is written under a temporary name, synced, and renamed over it, so that a reader sees the old file or the new
//! one. All files of a command are prepared before the first is renamed: a full disk changes nothing, and two
//! renames are microseconds apart. A key is renamed before its certificate, so that a certificate always has its key. Where a
//! pair replaces another, a reader may for that moment find the new key with the old certificate; it must compare the two and
//! retry (the server does).

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sanctum_config::atomic;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::PkiError;

/// The suffix of a temporary file.
const STAGED: &str = ".new";

/// Files to write and remove, in this order.
#[derive(Default)]
pub struct Changes(Vec<Change>);

enum Change {
    Write {
        path: PathBuf,
        bytes: Zeroizing<Vec<u8>>,
        mode: u32,
        /// The file must not exist, not even since a moment ago.
        new: bool,
    },
    Remove(PathBuf),
}

impl Changes {
    /// A file that every user may read.
    pub fn public(&mut self, path: PathBuf, bytes: impl Into<Vec<u8>>) {
        self.write(path, Zeroizing::new(bytes.into()), 0o644, false);
    }

    /// A file that only its owner may read, in a folder that only its owner may enter.
    pub fn secret(&mut self, path: PathBuf, bytes: Zeroizing<Vec<u8>>) {
        self.write(path, bytes, 0o600, false);
    }

    /// The same for a file that must not exist yet, unless `force`: of two commands at the same time, neither replaces the
    /// other's file.
    pub fn new_secret(&mut self, path: PathBuf, bytes: Zeroizing<Vec<u8>>, force: bool) {
        self.write(path, bytes, 0o600, !force);
    }

    /// A file to remove; it may be missing.
    pub fn remove(&mut self, path: PathBuf) {
        self.0.push(Change::Remove(path));
    }

    /// Appends other changes.
    pub fn then(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    fn write(&mut self, path: PathBuf, bytes: Zeroizing<Vec<u8>>, mode: u32, new: bool) {
        self.0.push(Change::Write {
            path,
            bytes,
            mode,
            new,
        });
    }

    /// One line for each file, for `--dry-run`.
    pub fn describe(&self, out: &mut dyn Write) -> io::Result<()> {
        self.0.iter().try_for_each(|change| match change {
            Change::Write { path, mode, .. } => {
                let verb = if path.exists() { "replace" } else { "write" };
                writeln!(out, "would {verb} {} (mode {mode:04o})", path.display())
            }
            Change::Remove(path) => writeln!(out, "would remove {}", path.display()),
        })
    }

    /// Writes everything.
    ///
    /// # Errors
    /// If a file cannot be prepared: nothing has changed then. If one cannot be renamed: those before it have been.
    pub fn apply(self) -> Result<(), PkiError> {
        let prepared: Vec<Prepared> = self
            .0
            .into_iter()
            .map(Change::prepare)
            .collect::<Result<_, _>>()?;
        prepared.into_iter().try_for_each(Prepared::finish)
    }
}

enum Prepared {
    Write {
        file: NamedTempFile,
        path: PathBuf,
        new: bool,
    },
    Remove(PathBuf),
}

impl Change {
    fn prepare(self) -> Result<Prepared, PkiError> {
        let (path, bytes, mode, new) = match self {
            Self::Remove(path) => return Ok(Prepared::Remove(path)),
            Self::Write {
                path,
                bytes,
                mode,
                new,
            } => (path, bytes, mode, new),
        };
        let file = stage(&path, &bytes, mode).map_err(|error| PkiError::write(&path, error))?;
        Ok(Prepared::Write { file, path, new })
    }
}

/// Uses the name that [`atomic::stage`] would use, so that [`atomic::sweep`] finds it.
fn stage(path: &Path, bytes: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = folder_of(path);
    atomic::folder_for_owner(folder)?;
    if mode & 0o077 == 0 {
        close_folder(folder)?;
    }
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(format!(".{}-{unique}", std::process::id()));
    let mut beside = folder.join(&prefix).into_os_string();
    beside.push(STAGED);
    // Left behind by a killed process that had the same process id.
    absent(fs::remove_file(beside))?;
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .rand_bytes(0)
        .suffix(STAGED)
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

impl Prepared {
    fn finish(self) -> Result<(), PkiError> {
        let (done, path) = match self {
            Self::Write { file, path, new } => {
                let put = match new {
                    true => file.persist_noclobber(&path),
                    false => file.persist(&path),
                };
                (put.map(drop).map_err(|e| e.error), path)
            }
            Self::Remove(path) => (absent(fs::remove_file(&path)), path),
        };
        done.and_then(|()| File::open(folder_of(&path))?.sync_all())
            .map_err(|error| PkiError::write(&path, error))
    }
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Closes a folder that will hold a secret to other users.
fn close_folder(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(folder, Permissions::from_mode(0o700)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_closed_and_public_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join("certs").join(name);
        let mut changes = Changes::default();
        changes.secret(at("a.key"), Zeroizing::new(b"key".to_vec()));
        changes.public(at("a.crt"), "crt");
        let mut said = Vec::new();
        changes.describe(&mut said).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(
            said.contains("would write") && said.contains("a.key (mode 0600)"),
            "{said}"
        );
        assert!(!at("").exists(), "describing writes nothing");
        changes.apply().unwrap();
        assert_eq!(
            (mode(&at("")), mode(&at("a.key")), mode(&at("a.crt"))),
            (0o700, 0o600, 0o644)
        );
        assert_eq!(fs::read_dir(at("")).unwrap().count(), 2);
        let mut changes = Changes::default();
        changes.remove(at("a.key"));
        changes.remove(at("never"));
        changes.apply().unwrap();
        assert!(!at("a.key").exists());
    }

    #[test]
    fn new_secret_replaces_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        fs::write(&path, "another command's").unwrap();
        let apply = |force| {
            let mut changes = Changes::default();
            changes.new_secret(path.clone(), Zeroizing::new(b"ours".to_vec()), force);
            changes.apply()
        };
        let error = apply(false).unwrap_err().to_string();
        assert!(
            error.contains("a.key") && error.contains("exists"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"another command's");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        apply(true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
    }

    #[test]
    fn one_file_that_cannot_be_written_keeps_all_others_from_changing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "old").unwrap();
        let mut changes = Changes::default();
        changes.public(at("a"), "new");
        // A file stands where the folder should be.
        changes.public(at("a/b"), "new");
        let error = changes.apply().unwrap_err().to_string();
        assert!(
            error.contains("a/b") && error.contains("no existing file"),
            "{error}"
        );
        assert_eq!(fs::read(at("a")).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
