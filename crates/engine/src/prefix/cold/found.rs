//! What is in a cache folder: which files can be used, which are damaged, which could not be read.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sanctum_config::cache_dir;

use super::file::{self, BadFile, Header};
use super::index::Index;
use super::key::ColdKey;

/// A file of the folder that is named as one of a prefix.
#[derive(Debug)]
pub(super) struct ColdFile {
    pub(super) path: PathBuf,
    pub(super) key: ColdKey,
}

/// What opening a file gave: when it was last used, and its header.
type OpenedFile = Result<(SystemTime, Header), BadFile>;

/// The files of a folder that are named as those of prefixes.
#[derive(Debug, Default)]
pub(super) struct FoundFiles {
    /// The prefixes that can be restored.
    pub(super) index: Index,
    /// The same, in the order of their last use.
    pub(super) usable: Vec<(SystemTime, Header)>,
    /// Files that can never be used, each with the reason.
    pub(super) damaged: Vec<(PathBuf, BadFile)>,
    /// Files that the system did not read. They may be whole.
    pub(super) unread: Vec<(PathBuf, io::Error)>,
    /// Whole prefixes that continue a missing one. Empty if files were not read: the missing one may be among them.
    pub(super) orphans: Vec<ColdKey>,
}

impl FoundFiles {
    /// Reads the headers of all prefixes in the folder.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let files = named(folder)?.into_iter().map(|ColdFile { path, key }| {
            let opened = file::open(&path, key);
            (path, opened.map(|(_, header, used)| (used, header)))
        });
        Ok(Self::sort(files))
    }

    /// Sorts files by what opening them gave.
    fn sort(files: impl Iterator<Item = (PathBuf, OpenedFile)>) -> Self {
        let mut found = Self::default();
        for (path, opened) in files {
            match opened {
                Ok(usable) => found.usable.push(usable),
                // It was evicted since the folder was listed.
                Err(BadFile::Unread(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(BadFile::Unread(error)) => found.unread.push((path, error)),
                Err(damage) => found.damaged.push((path, damage)),
            }
        }
        found
            .usable
            .sort_by_key(|(used, header)| (*used, header.len));
        let headers = found.usable.iter().map(|(_, header)| header.clone());
        let (index, orphans) = Index::load(headers.collect());
        let missing: HashSet<_> = orphans.iter().copied().collect();
        found
            .usable
            .retain(|(_, header)| !missing.contains(&header.key));
        found.index = index;
        if found.unread.is_empty() {
            found.orphans = orphans;
        }
        found
    }
}

/// The files that are named as those of prefixes.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn named(folder: &Path) -> io::Result<Vec<ColdFile>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const EIO: i32 = 5;

    fn key(number: u8) -> ColdKey {
        ColdKey([number; 32])
    }

    /// A prefix of one token more than its parent.
    fn opened(number: u8, parent: Option<u8>) -> OpenedFile {
        let parent = parent.map(|parent| (key(parent), parent.into()));
        let header = Header::new((&[1; 32], &[2; 16]), key(number), parent, &[0], b"");
        Ok((SystemTime::UNIX_EPOCH, header))
    }

    fn sorted(files: Vec<OpenedFile>) -> FoundFiles {
        let path = |number| PathBuf::from(format!("/{number}"));
        let files = files.into_iter().enumerate();
        FoundFiles::sort(files.map(|(number, opened)| (path(number), opened)))
    }

    #[test]
    fn file_that_the_system_did_not_read_stays_with_what_continues_it() {
        let failed = BadFile::Unread(io::Error::from_raw_os_error(EIO));
        let found = sorted(vec![opened(1, None), Err(failed), opened(3, Some(2))]);
        assert_eq!((found.index.len(), found.usable.len()), (1, 1));
        assert_eq!((found.damaged.len(), found.orphans.len()), (0, 0));
        assert_eq!(found.unread[0].0, Path::new("/1"));
    }

    #[test]
    fn damaged_file_is_named_and_what_continues_it_is_an_orphan() {
        let found = sorted(vec![
            opened(1, None),
            Err(BadFile::Header),
            opened(3, Some(2)),
        ]);
        assert_eq!((found.index.len(), found.usable.len()), (1, 1));
        assert!(matches!(found.damaged[..], [(_, BadFile::Header)]));
        assert_eq!((found.unread.len(), found.orphans), (0, vec![key(3)]));
    }

    #[test]
    fn file_that_is_gone_is_neither_damaged_nor_unread() {
        let gone = BadFile::Unread(io::ErrorKind::NotFound.into());
        let found = sorted(vec![Err(gone)]);
        assert!(found.damaged.is_empty() && found.unread.is_empty());
    }
}
