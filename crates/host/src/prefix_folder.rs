//! The folder in which a server keeps computed prefixes (`cache_dir`), from outside: whether a server can use it, and its
//! removal.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::{FileLock, cache_dir, quoted_file};

/// Where macOS mounts volumes.
const VOLUMES: &str = "/Volumes";

/// Reasons why a server cannot use the folder as its section of fleet.toml says, each with its fix. `limit` is the most that
/// it may take, in bytes.
pub fn problems(folder: &Path, limit: u64) -> Vec<String> {
    let shown = folder.display();
    if let Some(volume) = missing_volume(folder) {
        return vec![format!(
            "the volume {} is not mounted, so {shown} would be created on the startup disk; mount it before the server starts",
            volume.display()
        )];
    }
    let mut problems = Vec::new();
    match fs::metadata(folder) {
        Ok(about) if !about.is_dir() => {
            return vec![format!("{shown} is no folder; name another one")];
        }
        Ok(about) if about.mode() & 0o077 != 0 => problems.push(format!(
            "other users can enter {shown} (mode {:o}), and conversations lie there; chmod 700 {}",
            about.mode() & 0o777,
            quoted_file(folder)
        )),
        _ => {}
    }
    if let Some(free) = free(folder) {
        let room = free.saturating_add(size(folder).0);
        if room < limit {
            problems.push(format!(
                "{shown} may take {:.1} GiB, and its volume has room for {:.1} GiB; lower `cache_dir_limit_gb`",
                gib(limit),
                gib(room)
            ));
        }
    }
    problems
}

/// Removes the prefixes in the folder, and the folder if nothing else is in it. Returns how many there were. Files that no
/// server wrote stay. A folder that is missing has none.
///
/// # Errors
/// If a server uses the folder, or the system refuses.
pub fn remove(folder: &Path) -> io::Result<usize> {
    let lock = folder.join(cache_dir::LOCK);
    // Taking the lock would create a folder that is missing.
    let held = match lock.try_exists()? {
        true => FileLock::take(&lock, Duration::ZERO)?,
        false => None,
    };
    if held.is_none() && FileLock::is_held(&lock) {
        let message = format!("a server uses {}; stop it first", folder.display());
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
    }
    let mut removed = 0;
    for (file, _) in files(folder) {
        fs::remove_file(file)?;
        removed += 1;
    }
    for file in [folder.join(cache_dir::PROCESS), lock] {
        absent(fs::remove_file(file))?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        removed => absent(removed)?,
    }
    drop(held);
    Ok(removed)
}

/// The bytes of the prefixes in the folder, and how many there are.
pub fn size(folder: &Path) -> (u64, usize) {
    let files = files(folder);
    (files.iter().map(|(_, bytes)| bytes).sum(), files.len())
}

fn absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// The volume of macOS that the path is on, if it is not mounted.
fn missing_volume(folder: &Path) -> Option<PathBuf> {
    let name = folder.strip_prefix(VOLUMES).ok()?.components().next()?;
    let volume = Path::new(VOLUMES).join(name);
    (!volume.exists()).then_some(volume)
}

/// Free bytes where the folder is, or will be.
fn free(folder: &Path) -> Option<u64> {
    let nearest = folder.ancestors().find(|path| path.is_dir())?;
    let about = rustix::fs::statvfs(nearest).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Prefixes, and files that were being written when a server was killed, each with its bytes.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(is_prefix);
    let bytes = |entry: DirEntry| {
        (
            entry.path(),
            entry.metadata().map_or(0, |about| about.len()),
        )
    };
    named.map(bytes).collect()
}

fn is_prefix(entry: &DirEntry) -> bool {
    let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
    let is_ours = |name: &str| cache_dir::prefix_key(name).is_some() || cache_dir::is_staged(name);
    is_file && entry.file_name().to_str().is_some_and(is_ours)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A folder with a prefix, and one that was being written.
    fn filled(folder: &Path) {
        let key = |digit: &str| digit.repeat(64);
        write(&folder.join(cache_dir::LOCK), b"");
        write(&folder.join(cache_dir::PROCESS), b"12");
        write(&folder.join(format!("{}.prefix", key("a"))), b"12345");
        let half = format!(".{}.prefix.12-0.new", key("b"));
        write(&folder.join(half), b"123");
    }

    #[test]
    fn removal_leaves_only_what_no_server_wrote() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache");
        filled(&folder);
        assert_eq!(size(&folder), (8, 2));
        assert_eq!(remove(&folder).unwrap(), 2);
        assert!(!folder.exists());
        assert_eq!(remove(&folder).unwrap(), 0);
        assert!(!folder.exists(), "a removal creates nothing");

        filled(&folder);
        let theirs = [
            "notes.txt",
            "lock",
            "owner",
            "a.prefix",
            &format!("{}.prefix", "z".repeat(64)),
            &format!(".{}.prefix.backup.new", "a".repeat(64)),
            &format!("photos/{}.prefix", "a".repeat(64)),
        ];
        for name in theirs {
            write(&folder.join(name), b"x");
        }
        assert_eq!(remove(&folder).unwrap(), 2);
        for name in theirs {
            assert!(folder.join(name).exists(), "{name}");
        }
    }

    #[test]
    fn removal_is_refused_while_a_server_uses_the_folder() {
        let root = tempfile::tempdir().unwrap();
        filled(root.path());
        let held = FileLock::take(&root.path().join(cache_dir::LOCK), Duration::ZERO).unwrap();
        let error = remove(root.path()).unwrap_err().to_string();
        assert!(error.contains("stop it first"), "{error}");
        let key = format!("{}.prefix", "a".repeat(64));
        assert!(root.path().join(key).exists());
        drop(held);
    }

    #[test]
    fn open_folder_small_volume_and_missing_volume_are_problems() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache");
        assert_eq!(problems(&folder, 1), Vec::<String>::new());
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let both = problems(&folder, u64::MAX);
        assert!(both[0].contains("chmod 700"), "{both:?}");
        assert!(both[1].contains("cache_dir_limit_gb"), "{both:?}");
        let missing = problems(Path::new("/Volumes/absent-volume/cache"), 1);
        assert!(missing[0].contains("/Volumes/absent-volume is not mounted"));
        let file = root.path().join("file");
        write(&file, b"");
        assert!(problems(&file, 1)[0].contains("no folder"));
    }
}
