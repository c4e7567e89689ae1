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
    // Where each user has a group of their own, files that administrators copy are often writable by it.
    is_not_writable_by(Writers::All, path, &about)?;
    read_opened(file, limit)
}

/// Reads a record of at most `limit` bytes that this process, or another one of its user, has written: a regular file that
/// belongs to the user of this process, and that no other user may write.
///
/// # Errors
/// As [`read`]; and if another user could have written it, whose record is not to be believed.
pub fn read_own(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let about = file.metadata()?;
    is_ours(&about)?;
    is_not_writable_by(Writers::Others, path, &about)?;
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

/// Users who may not write a file.
#[derive(Clone, Copy)]
enum Writers {
    /// All users of the machine.
    All,
    /// These, and the members of the file's group.
    Others,
}

fn is_not_writable_by(writers: Writers, path: &Path, about: &Metadata) -> io::Result<()> {
    let refused_bits = match writers {
        Writers::All => 0o002,
        Writers::Others => 0o022,
    };
    let mode = about.mode() & 0o777;
    if mode & refused_bits == 0 {
        return Ok(());
    }
    let who = match mode & 0o002 {
        0 => "the members of its group",
        _ => "all users",
    };
    Err(refused(format!(
        "its mode is {mode:04o}, so {who} could have changed it; compare it with a copy that you trust, then type: chmod go-w {}",
        quoted_file(path)
    )))
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
mod tests;
