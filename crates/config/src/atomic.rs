//! Files that are written whole or not at all: written beside their place, synced, renamed over it. A reader, and a
//! process that is killed at any moment, sees the old file or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A complete file beside its destination. Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    beside: PathBuf,
    path: PathBuf,
    done: bool,
}

/// Writes `bytes` to `path` with the permission bits `mode` (such as `0o600`). Folders that are missing are made,
/// readable by their owner only.
///
/// # Errors
/// If the system refuses; what was at `path` is untouched then.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    stage(path, &mut &bytes[..], mode)?.put()
}

/// Writes what `from` holds beside `path` and syncs it. Nothing has changed at `path` until [`Staged::put`].
///
/// # Errors
/// If the system refuses, or `from` cannot be read.
pub fn stage(path: &Path, from: &mut dyn io::Read, mode: u32) -> io::Result<Staged> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = folder_of(path);
    folder_for_owner(folder)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{unique}.new", std::process::id()));
    let staged = Staged {
        beside: folder.join(hidden),
        path: path.to_owned(),
        done: false,
    };
    // Left behind by a process that was killed and had our number.
    absent(fs::remove_file(&staged.beside))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&staged.beside)?;
    io::copy(from, &mut file)?;
    file.flush()?;
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    Ok(staged)
}

impl Staged {
    /// Renames it over its place.
    ///
    /// # Errors
    /// If the system refuses; what was there is untouched then.
    pub fn put(mut self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)?;
        self.done = true;
        File::open(folder_of(&self.path))?.sync_all()
    }

    /// The place that it is meant for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is until then.
    pub fn beside(&self) -> &Path {
        &self.beside
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

/// Makes a folder, and those above it that are missing, readable by their owner only under any umask. One that is there
/// keeps its mode.
///
/// # Errors
/// If the system refuses.
pub fn folder_for_owner(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        folder_for_owner(above)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        // The umask may have taken bits away.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o700)),
        // Another process made it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes files that [`stage`] was writing in `folder` when its process was killed. Returns how many there were. Those
/// of processes that still run stay. A folder that is not there has none.
///
/// # Errors
/// If the system refuses.
pub fn sweep(folder: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut swept = 0;
    for entry in entries {
        let entry = entry?;
        let dead = entry
            .file_name()
            .to_str()
            .and_then(staged_parts)
            .is_some_and(|(_, writer)| {
                rustix::process::test_kill_process(writer) == Err(rustix::io::Errno::SRCH)
            });
        if dead && entry.file_type()?.is_file() {
            absent(fs::remove_file(entry.path()))?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// The name of the file for which [`stage`] writes one with the name `staged`; none if it writes none with that name.
pub fn staged_for(staged: &str) -> Option<&str> {
    staged_parts(staged).map(|(name, _)| name)
}

/// The file's name and the writing process of the staged file `.NAME.PID-COUNT.new`.
fn staged_parts(staged: &str) -> Option<(&str, rustix::process::Pid)> {
    let (name, numbers) = staged
        .strip_prefix('.')?
        .strip_suffix(".new")?
        .rsplit_once('.')?;
    let (process, count) = numbers.split_once('-')?;
    let (process, count) = (process.parse::<i32>().ok()?, count.parse::<u32>().ok()?);
    // `stage` writes neither `+1` nor `01`.
    if name.is_empty() || numbers != format!("{process}-{count}") {
        return None;
    }
    Some((name, rustix::process::Pid::from_raw(process)?))
}

/// Removes a file; it may be gone already.
///
/// # Errors
/// If the system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    absent(fs::remove_file(path))?;
    match File::open(folder_of(path)) {
        Ok(folder) => folder.sync_all(),
        Err(error) => absent(Err(error)),
    }
}

fn absent(done: io::Result<()>) -> io::Result<()> {
    match done {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_with_its_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/a.json");
        write(&path, b"old", 0o600).unwrap();
        let staged = stage(&path, &mut &b"new"[..], 0o755).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        staged.put().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o755);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        drop(stage(&path, &mut &b"never"[..], 0o644).unwrap());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        remove(&folder.path().join("no/such/file")).unwrap();
    }

    #[test]
    fn sweep_removes_staged_files_of_dead_processes_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        let ours = std::process::id();
        for name in [
            format!(".a.json.{dead}-0.new"),
            format!(".a.json.{ours}-7.new"),
            ".hidden.new".to_owned(),
            format!("a.json.{dead}-0.new"),
            format!(".a.json.{dead}-00.new"),
            format!(".a.json.+{dead}-0.new"),
        ] {
            fs::write(folder.path().join(name), "half").unwrap();
        }
        assert_eq!(sweep(folder.path()).unwrap(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
        assert_eq!(sweep(&folder.path().join("absent")).unwrap(), 0);
    }

    #[test]
    fn modes_under_any_umask_are_those_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        // The umask belongs to the whole process, so another one tries it.
        if let Some(root) = std::env::var_os("SANCTUM_UMASK_TEST") {
            return write(&Path::new(&root).join("a/b/c"), b"secret", 0o600).unwrap();
        }
        for umask in ["000", "077", "277", "777"] {
            let root = folder.path().join(umask);
            fs::create_dir(&root).unwrap();
            let test = std::env::current_exe().unwrap();
            let status = std::process::Command::new("sh")
                .args([
                    "-c",
                    "umask \"$1\" && exec \"$2\" modes_under_any_umask",
                    "sh",
                    umask,
                ])
                .arg(test)
                .env("SANCTUM_UMASK_TEST", &root)
                .status()
                .unwrap();
            assert!(status.success(), "{umask}");
            let mode =
                |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
            assert_eq!(
                (mode("a"), mode("a/b"), mode("a/b/c")),
                (0o700, 0o700, 0o600),
                "{umask}"
            );
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, b"old", 0o644).unwrap();
        assert!(write(&path.join("b"), b"new", 0o644).is_err());
        assert!(write(Path::new("/"), b"new", 0o644).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
