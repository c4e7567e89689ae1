//! Reading files that anything could have been put in place of.
//!
//! Opening a FIFO blocks until a process writes to it, and a folder or a device in place of a file gives an error that
//! names neither. Every program of the fleet reads its state, keys and certificates through these functions, which
//! accept regular files only and never wait for another process.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::{atomic, quoted_file};

/// Opens a regular file for reading, a symbolic link to one included.
///
/// # Errors
/// If the system refuses, or `path` is no regular file; the error says what it is and what to do, but not the path,
/// which the caller knows.
pub fn open(path: &Path) -> io::Result<File> {
    open_checked(path, &std::fs::metadata(path)?, OFlags::empty())
}

/// Opens a regular file for reading. A symbolic link is no regular file, whatever it leads to.
///
/// # Errors
/// As [`open`].
pub fn open_no_follow(path: &Path) -> io::Result<File> {
    open_checked(path, &std::fs::symlink_metadata(path)?, OFlags::NOFOLLOW)
}

/// Some devices act on being opened, so what is there is checked first; the check is repeated on the opened file.
fn open_checked(path: &Path, about: &Metadata, flags: OFlags) -> io::Result<File> {
    is_regular(about)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY | flags).bits() as i32)
        .open(path)
        .map_err(|error| explained(error, about))?;
    is_regular(&file.metadata()?)?;
    Ok(file)
}

/// Opens a lock file for writing, and makes it, and its folder, if it is not there: for its owner only, under any umask.
/// Nothing is locked yet.
///
/// # Errors
/// As [`open`].
pub fn open_lock(path: &Path) -> io::Result<File> {
    open_to_append(path, false)
}

/// Opens a file of this user's own for reading and appending, such as a log, and makes it, and its folder, if it is not
/// there: for its owner only, under any umask. A mode that gives other users something is changed to 0600.
///
/// # Errors
/// As [`open`]; and if it belongs to another user.
pub fn open_log(path: &Path) -> io::Result<File> {
    let file = open_to_append(path, true)?;
    let about = file.metadata()?;
    is_ours(&about)?;
    if about.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn open_to_append(path: &Path, read: bool) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        atomic::folder_for_owner(folder)?;
    }
    let about = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        about => Some(about?),
    };
    if let Some(about) = &about {
        is_regular(about)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(read)
        .mode(0o600)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
        .open(path)
        .map_err(|error| match &about {
            Some(about) => explained(error, about),
            None => error,
        })?;
    is_regular(&file.metadata()?)?;
    if about.is_none() {
        // The umask may have taken bits away.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`]; and if the file is larger.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_opened(open(path)?, limit)
}

/// Reads a regular file of at most `limit` bytes, which must be UTF-8.
///
/// # Errors
/// As [`read`]; and if the bytes are not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| invalid(error.utf8_error().to_string()))
}

/// Reads a file of at most `limit` bytes that decides what this process trusts, such as a CA's certificate: a regular file
/// that belongs to the user of this process, or to root, and that not every user may write.
///
/// # Errors
/// As [`read`]; and if another user could replace it.
pub fn read_trusted(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let about = file.metadata()?;
    if about.uid() != 0 {
        is_ours(&about)?;
    }
    is_not_for_everyone_to_write(&about)?;
    read_opened(file, limit)
}

/// Reads a record of at most `limit` bytes that this process, or another one of its user, has written: a regular file that
/// belongs to the user of this process, and that not every user may write.
///
/// # Errors
/// As [`read`]; and if another user could have written it, whose record is not to be believed.
pub fn read_own(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let about = file.metadata()?;
    is_ours(&about)?;
    is_not_for_everyone_to_write(&about)?;
    read_opened(file, limit)
}

/// Reads a secret of at most `limit` bytes: a regular file that belongs to the user of this process and that no other
/// user may read or write. The bytes are in no other buffer, so wiping the vector wipes them.
///
/// # Errors
/// As [`read`]; and if owner or mode say that others know or can replace the secret.
pub fn read_secret(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_opened(open_secret(path)?, limit)
}

/// Opens a secret for reading, under the rules of [`read_secret`].
///
/// # Errors
/// As [`open`]; and if owner or mode say that others know or can replace the secret.
pub fn open_secret(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    let about = file.metadata()?;
    is_ours(&about)?;
    is_closed(&about, || format!("type: chmod 600 {}", quoted_file(path)))?;
    Ok(file)
}

/// Checks that a file belongs to the user of this process, and that its mode gives other users nothing.
///
/// # Errors
/// With the owner or the mode, and the command that changes it.
pub fn is_private(about: &Metadata) -> io::Result<()> {
    is_ours(about)?;
    is_closed(about, || "run chmod 600 on it".to_owned())
}

/// Whether the mode gives other users nothing. `fix` is the end of the error.
fn is_closed(about: &Metadata, fix: impl FnOnce() -> String) -> io::Result<()> {
    match about.mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(refused(format!(
            "its mode is {mode:04o}, so other users could read or replace it; {}",
            fix()
        ))),
    }
}

fn is_ours(about: &Metadata) -> io::Result<()> {
    let us = rustix::process::geteuid().as_raw();
    if about.uid() == us {
        return Ok(());
    }
    Err(refused(format!(
        "it belongs to user {} and this process runs as user {us}, so another user could know or replace it; \
         change its owner with chown",
        about.uid()
    )))
}

fn is_not_for_everyone_to_write(about: &Metadata) -> io::Result<()> {
    match about.mode() & 0o777 {
        mode if mode & 0o002 == 0 => Ok(()),
        mode => Err(refused(format!(
            "its mode is {mode:04o}, so every user could have changed it; compare it with a copy that you trust, then run chmod \
             go-w on it"
        ))),
    }
}

/// A refusal with its reason, where that is the file's owner or its mode.
fn explained(error: io::Error, about: &Metadata) -> io::Error {
    let us = rustix::process::geteuid().as_raw();
    match (error.kind(), about.uid()) {
        (io::ErrorKind::PermissionDenied, owner) if owner != us => refused(format!(
            "it belongs to user {owner} and this process runs as user {us}; change its owner with chown, or remove it"
        )),
        (io::ErrorKind::PermissionDenied, _) => refused(format!(
            "its mode is {:04o}, which gives this process too little; run chmod 600 on it",
            about.mode() & 0o777
        )),
        _ => error,
    }
}

fn read_opened(file: File, limit: u64) -> io::Result<Vec<u8>> {
    // In one piece: a vector that grows leaves copies of a secret behind.
    let size = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        false => Ok(bytes),
        true => Err(invalid(format!(
            "it is larger than {limit} bytes, so it is not the file that belongs there"
        ))),
    }
}

fn is_regular(about: &Metadata) -> io::Result<()> {
    let kind = about.file_type();
    let name = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_symlink() => "a symbolic link",
        () => "a device",
    };
    Err(invalid(format!(
        "it is {name}, not a regular file; move it away"
    )))
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn refused(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, problem)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn read_of_what_is_no_regular_file_fails_at_once_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap();
        assert!(made.success());
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        for (path, kind) in [
            (fifo.as_path(), "a FIFO"),
            (&link, "a FIFO"),
            (folder.path(), "a folder"),
            (&socket, "a socket"),
            (Path::new("/dev/null"), "a device"),
        ] {
            let error = read(path, 10).unwrap_err().to_string();
            assert!(error.contains(kind), "{}: {error}", path.display());
            assert!(read_secret(path, 10).is_err());
            let error = open_log(path).unwrap_err().to_string();
            assert!(error.contains(kind), "{}: {error}", path.display());
        }
        let absent = read(&folder.path().join("absent"), 10).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn open_no_follow_refuses_links_and_opens_files() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open(&link).is_ok() && open_no_follow(&file).is_ok());
        let error = open_no_follow(&link).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("a symbolic link"), "{error}");
    }

    #[test]
    fn open_lock_of_what_is_no_regular_file_fails_at_once_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap();
        assert!(made.success());
        for (path, kind) in [(fifo.as_path(), "a FIFO"), (folder.path(), "a folder")] {
            let error = open_lock(path).unwrap_err().to_string();
            assert!(error.contains(kind), "{}: {error}", path.display());
        }
    }

    #[test]
    fn open_lock_makes_a_private_file_under_any_umask() {
        let folder = tempfile::tempdir().unwrap();
        // The umask belongs to the whole process, so another one tries it.
        if let Some(path) = std::env::var_os("SANCTUM_LOCK_TEST") {
            drop(open_lock(Path::new(&path)).unwrap());
            return;
        }
        for umask in ["000", "777"] {
            let path = folder.path().join(umask).join("a.lock");
            let status = std::process::Command::new("sh")
                .args([
                    "-c",
                    "umask \"$1\" && exec \"$2\" open_lock_makes",
                    "sh",
                    umask,
                ])
                .arg(std::env::current_exe().unwrap())
                .env("SANCTUM_LOCK_TEST", &path)
                .status()
                .unwrap();
            assert!(status.success(), "{umask}");
            let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
            assert_eq!(mode(&path), 0o600);
            assert_eq!(mode(path.parent().unwrap()), 0o700);
            drop(open_lock(&path).unwrap());
        }
    }

    #[test]
    fn refusal_of_a_file_names_its_owner_or_its_mode() {
        let about = fs::metadata("/etc/passwd").unwrap();
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let said = explained(denied(), &about).to_string();
        match rustix::process::geteuid().is_root() {
            true => assert!(said.contains("its mode is 0644"), "{said}"),
            false => assert!(said.contains("it belongs to user 0"), "{said}"),
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
            let said = explained(denied(), &fs::metadata(&path).unwrap()).to_string();
            assert!(said.contains("it belongs to user 12345"), "{said}");
        }
        let other = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(explained(other, &about).kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn read_beyond_its_limit_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        assert!(read(&path, 3).unwrap_err().to_string().contains("3 bytes"));
        assert_eq!(read_text(&path, 4).unwrap(), "1234");
        fs::write(&path, b"\xff").unwrap();
        assert!(read_text(&path, 4).is_err());
    }

    #[test]
    fn read_secret_that_others_may_read_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "secret").unwrap();
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = read_secret(&path, 100);
            assert_eq!(read.is_ok(), accepted, "{mode:o}: {read:?}");
        }
    }

    #[test]
    fn read_of_a_record_or_a_certificate_that_everyone_may_write_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.json");
        fs::write(&path, "{}").unwrap();
        for (mode, accepted) in [(0o600, true), (0o644, true), (0o664, true), (0o666, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            for read in [read_trusted(&path, 100), read_own(&path, 100)] {
                assert_eq!(read.is_ok(), accepted, "{mode:o}: {read:?}");
            }
        }
    }

    #[test]
    fn read_secret_of_another_user_fails() {
        if !rustix::process::geteuid().is_root() {
            // Only root can give a file away; `read_secret` is then tried on a file of root's instead.
            assert!(read_secret(Path::new("/etc/passwd"), 1 << 20).is_err());
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        for error in [
            read_secret(&path, 100).unwrap_err(),
            read_trusted(&path, 100).unwrap_err(),
            open_log(&path).unwrap_err(),
        ] {
            assert!(error.to_string().contains("12345"), "{error}");
        }
    }
}
