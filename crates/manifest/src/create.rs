//! Creates the manifest of a folder whose files are known to be good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::folder::OpenFolder;
use crate::hashing::{Content, HashJob, Hashing};
use crate::verification::cores;
use crate::{FileName, Manifest, ManifestError};

/// Hashes every file of a folder and of the folders within, except those in `except` (the manifest itself and its
/// signature, where they are kept in the folder) and Finder's `.DS_Store`. Links to files inside the folder are listed
/// under their own names. Calls `progress(done, total)` with bytes.
///
/// # Errors
/// If a file cannot be read, is not a regular file, cannot be named in a manifest or is a link that leaves the folder.
pub fn create(
    folder: &Path,
    except: &[PathBuf],
    progress: impl FnMut(u64, u64),
) -> Result<Manifest, ManifestError> {
    let folder = Arc::new(OpenFolder::open(folder)?);
    let listing = folder.list()?;
    if let Some(source) = listing.unnameable.into_iter().next() {
        return Err(ManifestError::Name {
            folder: folder.path().to_owned(),
            source,
        });
    }
    let except = folder.names_of(except);
    let jobs = listing
        .files
        .into_iter()
        .filter(|name| !except.contains(name))
        .map(|name| HashJob {
            size: folder.expected_size(&name).unwrap_or(0),
            name,
            content: Content::Unopened,
        })
        .collect();
    let hashing = Hashing::start(folder.clone(), jobs, cores()).map_err(ManifestError::Thread)?;
    let mut files = BTreeMap::<FileName, _>::new();
    let mut faults = Vec::new();
    for (name, found) in hashing.finish(progress) {
        match found {
            Ok((digest, _)) => drop(files.insert(name, digest)),
            Err(fault) => faults.push((name, fault)),
        }
    }
    if !faults.is_empty() {
        return Err(ManifestError::first(folder.path(), faults));
    }
    Manifest::from_files(files).ok_or_else(|| ManifestError::Nothing {
        folder: folder.path().to_owned(),
    })
}
