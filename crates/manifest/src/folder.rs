//! A folder whose files are opened by name and never outside it.
//!
//! Each component of a name is opened relative to the previous one, without following links; a link is read and its target
//! walked in the same way, so that no name and no link leads outside, even while another process rearranges the folder.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Fault, FileName, ManifestError, NameError};

/// Links that one name may lead through, as in Linux.
const LINKS: usize = 40;

/// Longer than a tick of any current file system's clock.
const TICK: Duration = Duration::from_millis(20);

/// Finder writes it into every folder that it shows.
const FINDER: &str = ".DS_Store";

/// An open folder.
#[derive(Debug)]
pub(crate) struct OpenFolder {
    path: PathBuf,
    /// Without links, to understand absolute links into the folder.
    canonical: PathBuf,
    fd: OwnedFd,
}

/// Metadata that changes with a file's content. Times are in seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The names in a folder, sorted.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Of everything that is not a folder, at any depth.
    pub files: Vec<FileName>,
    /// What cannot be named in a manifest.
    pub unnameable: Vec<NameError>,
}

impl OpenFolder {
    /// Opens a folder.
    pub(crate) fn open(path: &Path) -> Result<Self, ManifestError> {
        let failed = |source| ManifestError::Io {
            path: path.to_owned(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        Ok(Self {
            path: path.to_owned(),
            canonical: path.canonicalize().map_err(failed)?,
            fd,
        })
    }

    /// Its path, as given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file of it for reading. A later write to the file changes its stamp: if the file was written in the
    /// current tick of the file system's clock, a few milliseconds, this waits for the end of the tick.
    pub(crate) fn open_file(&self, name: &FileName) -> Result<(File, FileStamp), Fault> {
        let mut ahead: Vec<OsString> = name.components().rev().map(OsString::from).collect();
        // The folders between this one and the next component.
        let mut inside: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            // Only links have these two in them.
            if part == "." {
                continue;
            }
            if part == ".." {
                if inside.pop().is_none() {
                    return Err(self.link_out());
                }
                continue;
            }
            let here = inside.last().map_or(self.fd.as_fd(), AsFd::as_fd);
            // Opening a pipe must not wait for its writer.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match rustix::fs::openat(here, &part, flags, Mode::empty()) {
                Ok(fd) if ahead.is_empty() => return regular(fd, links > 0),
                Ok(fd) => inside.push(folder(fd)?),
                // FreeBSD has another error for it.
                Err(Errno::LOOP | Errno::MLINK) => {
                    links += 1;
                    if links > LINKS {
                        return Err(Fault::LinkLoop);
                    }
                    self.follow(&part, &mut inside, &mut ahead)?;
                }
                Err(error) => return Err(Fault::Io(error.into())),
            }
        }
        Err(Fault::LinkToFolder)
    }

    fn link_out(&self) -> Fault {
        Fault::LinkOut {
            folder: self.path.clone(),
        }
    }

    /// Puts the target of a link in `inside`'s last folder in place of the link.
    fn follow(
        &self,
        link: &OsStr,
        inside: &mut Vec<OwnedFd>,
        ahead: &mut Vec<OsString>,
    ) -> Result<(), Fault> {
        let here: BorrowedFd = inside.last().map_or(self.fd.as_fd(), AsFd::as_fd);
        let target = rustix::fs::readlinkat(here, link, Vec::new())
            .map_err(|error| Fault::Io(error.into()))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        let mut rest = target.as_path();
        if target.is_absolute() {
            rest = target
                .strip_prefix(&self.canonical)
                .map_err(|_| self.link_out())?;
            inside.clear();
        }
        let parts = rest.components().rev().map(Component::as_os_str);
        ahead.extend(parts.map(OsStr::to_owned));
        Ok(())
    }

    /// How long a file is by its name: for schedules and progress only, since it may be another by the time it is
    /// opened.
    pub(crate) fn expected_size(&self, name: &FileName) -> io::Result<u64> {
        Ok(fs::metadata(self.path.join(name.as_path()))?.len())
    }

    /// The names of those files of `paths` that lie in this folder.
    pub(crate) fn names_of(&self, paths: &[PathBuf]) -> Vec<FileName> {
        let inside = |path: &PathBuf| {
            // The file itself may not be there yet, or be a link.
            let folder = match path.parent()? {
                here if here.as_os_str().is_empty() => Path::new("."),
                folder => folder,
            };
            let path = folder.canonicalize().ok()?.join(path.file_name()?);
            let name = path.strip_prefix(&self.canonical).ok()?.to_str()?;
            name.parse().ok()
        };
        paths.iter().filter_map(inside).collect()
    }

    /// The names of all that is in it and in the folders within, links to folders not followed.
    pub(crate) fn list(&self) -> Result<Listing, ManifestError> {
        let mut listing = Listing::default();
        let mut ahead = vec![self.path.clone()];
        while let Some(folder) = ahead.pop() {
            let failed = |source| ManifestError::Io {
                path: folder.clone(),
                source,
            };
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_name() == FINDER {
                    continue;
                }
                let path = entry.path();
                if entry.file_type().map_err(failed)?.is_dir() {
                    ahead.push(path);
                    continue;
                }
                let name = path.strip_prefix(&self.path).unwrap_or(&path);
                let name = match name.to_str() {
                    Some(name) => name.parse(),
                    None => Err(NameError::NotUtf8(name.to_string_lossy().into())),
                };
                match name {
                    Ok(name) => listing.files.push(name),
                    Err(error) => listing.unnameable.push(error),
                }
            }
        }
        listing.files.sort();
        Ok(listing)
    }
}

/// A folder, in which more components may follow: `FILE/..` is an error, as in the system.
fn folder(fd: OwnedFd) -> io::Result<OwnedFd> {
    let file = File::from(fd);
    match file.metadata()?.is_dir() {
        true => Ok(file.into()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

fn regular(fd: OwnedFd, through_link: bool) -> Result<(File, FileStamp), Fault> {
    let file = File::from(fd);
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => {
            let stamp = FileStamp::before_reading(&metadata);
            Ok((file, stamp))
        }
        false if metadata.is_dir() && through_link => Err(Fault::LinkToFolder),
        false => Err(Fault::NotAFile),
    }
}

impl Fault {
    /// Whether the file does not exist.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Fault::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl FileStamp {
    /// The stamp of an open file before anything is read: every later write changes it.
    pub fn before_reading(metadata: &Metadata) -> Self {
        let stamp = Self::of(metadata);
        thread::sleep(TICK.saturating_sub(stamp.age()));
        stamp
    }

    /// From the metadata of an open file.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long ago the file was last written or touched. Long ago, where its clock is ahead of ours.
    fn age(&self) -> Duration {
        let (seconds, nanoseconds) = self.changed;
        let since = || {
            let since = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
            (UNIX_EPOCH + since).elapsed().ok()
        };
        since().unwrap_or(Duration::MAX)
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first attribute in which two states of one name differ.
    pub(crate) fn difference(&self, now: &Self) -> Option<&'static str> {
        [
            (
                "another file has its name",
                (self.device, self.inode) != (now.device, now.inode),
            ),
            ("its size", self.size != now.size),
            ("its modification time", self.modified != now.modified),
            ("its change time", self.changed != now.changed),
        ]
        .into_iter()
        .find_map(|(what, differs)| differs.then_some(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_file_is_read_in_the_tick_in_which_it_was_written() {
        let home = tempfile::tempdir().unwrap();
        let folder = OpenFolder::open(home.path()).unwrap();
        let (path, name) = (home.path().join("a"), "a".parse().unwrap());
        fs::write(&path, [0]).unwrap();
        let (_file, stamp) = folder.open_file(&name).unwrap();
        assert!(stamp.age() >= TICK);
        // So that this shows, the same size or not.
        fs::write(&path, [1]).unwrap();
        let (_file, now) = folder.open_file(&name).unwrap();
        assert!(stamp.difference(&now).is_some());
    }
}
