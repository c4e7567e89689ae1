//! Why a folder does not match its manifest, with the command to run next.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::{Digest, FileName, KeyError, LineError, NameError};

/// A manifest that cannot be created, or a folder that does not match one.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest or its signature cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Keys are trusted and there is no signature.
    #[error(
        "{manifest} is not signed: {} is missing; sign it on the machine with the key: sanctum-pki manifest sign {manifest}",
        super::signature_path(manifest).display(), manifest = manifest.display()
    )]
    Unsigned {
        /// The manifest.
        manifest: PathBuf,
    },
    /// No trusted key made the signature.
    #[error(
        "{} is not the signature of {manifest} by a trusted key ({trusted}): the manifest was changed after it was \
         signed, or another key signed it; find out what changed, then sign it on the machine with the key: \
         sanctum-pki manifest sign {manifest}",
        super::signature_path(manifest).display(), manifest = manifest.display()
    )]
    BadSignature {
        /// The manifest.
        manifest: PathBuf,
        /// The first digits of each key.
        trusted: String,
    },
    /// The manifest is larger than any can be.
    #[error("{path} is larger than 64 MiB, so it is not a manifest", path = path.display())]
    TooLarge {
        /// The manifest.
        path: PathBuf,
    },
    /// A line of the manifest is invalid.
    #[error("{path}, {source}", path = path.display())]
    Line {
        /// The manifest.
        path: PathBuf,
        /// Which, and why.
        source: LineError,
    },
    /// A name in the folder is not allowed in a manifest.
    #[error("{folder}: {source}", folder = folder.display())]
    Name {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: NameError,
    },
    /// A file cannot be opened safely, or is not as listed.
    #[error("{path}: {fault}{}", and_others(*.others), path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Box<Fault>,
        /// How many other files have something wrong with them.
        others: usize,
    },
    /// There is no file to list.
    #[error("{folder} holds no file to list", folder = folder.display())]
    Nothing {
        /// The folder.
        folder: PathBuf,
    },
    /// The system refuses another thread.
    #[error("cannot start the hashing threads: {0}")]
    Thread(io::Error),
}

/// What is wrong with one file of a folder.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is listed and missing.
    #[error(
        "it is listed in {manifest} and missing from the folder; copy it again from the source of the manifest",
        manifest = manifest.display()
    )]
    Missing {
        /// The manifest.
        manifest: PathBuf,
    },
    /// It exists, the loader would read it, and it is not listed.
    #[error(
        "it is not listed in {manifest}, and the loader would read it; remove it, or list it if it belongs there: \
         sanctum-pki manifest create {folder} --out {manifest}",
        manifest = manifest.display(), folder = folder.display()
    )]
    Unlisted {
        /// The manifest.
        manifest: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// Its content differs.
    #[error(
        "it is not what {manifest} lists: expected {expected}, found {found}{}; copy it again from the source of the \
         manifest, then run: shasum -a 256 {path}",
        Size(*size), manifest = manifest.display(), path = path.display()
    )]
    Differs {
        /// The manifest.
        manifest: PathBuf,
        /// The file, for the command.
        path: PathBuf,
        /// The digest that is listed.
        expected: Digest,
        /// The digest of the file.
        found: Digest,
        /// The size of the file, in bytes.
        size: u64,
    },
    /// It was written to, replaced or touched between being opened and the end of loading.
    #[error(
        "it changed while it was loaded ({what}); find out what writes to the folder, then start again"
    )]
    Changed {
        /// Which of its attributes.
        what: &'static str,
    },
    /// It is a link, or lies behind one, that leaves the folder.
    #[error(
        "it is a link out of the folder, where other users may write; copy the folder with links followed: \
         cp -RL {folder} COPY",
        folder = folder.display()
    )]
    LinkOut {
        /// The folder.
        folder: PathBuf,
    },
    /// Links lead in a circle, or nearly.
    #[error("it has too many levels of links; replace the links by their targets")]
    LinkLoop,
    /// It is a link to a folder.
    #[error("it is a link to a folder, which a manifest cannot list; replace it by a copy")]
    LinkToFolder,
    /// It is a folder, a pipe, a device.
    #[error("it is not a regular file; remove it")]
    NotAFile,
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ManifestError {
    /// One error for all the files that have a fault: the first is named.
    ///
    /// # Panics
    /// Without any fault.
    pub(crate) fn first(folder: &std::path::Path, mut faults: Vec<(FileName, Fault)>) -> Self {
        faults.sort_by(|(a, _), (b, _)| a.cmp(b));
        let others = faults.len() - 1;
        let (name, fault) = faults.swap_remove(0);
        Self::File {
            path: folder.join(name.as_path()),
            fault: Box::new(fault),
            others,
        }
    }
}

fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " (and one other file has a fault)".to_owned(),
        count => format!(" (and {count} other files have faults)"),
    }
}

/// The size of a file, for messages: an empty file is the most common kind of damage.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str(" (the file is empty)"),
            bytes => write!(f, " over {bytes} bytes"),
        }
    }
}
