//! The folder and the name of an adapter.

use std::fs;
use std::path::{Path, PathBuf};

use super::config::{self, AdapterLayout};
use super::name::{AdapterName, InvalidAdapterName};

/// An adapter's name and folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSource {
    /// What it is called.
    pub name: AdapterName,
    /// Its folder.
    pub folder: PathBuf,
}

impl AdapterSource {
    /// The files of an adapter that are read: its settings, and its weights in one layout or the other.
    pub const FILES: [&str; 3] = [
        config::FILE,
        AdapterLayout::Mlx.weights(),
        AdapterLayout::Peft.weights(),
    ];

    /// The adapter in a folder, named after it. Links are resolved here, so that the name stays valid: the adapter is
    /// the folder that they point to.
    ///
    /// # Errors
    /// If the folder's name cannot be an adapter's. It is read only when it is opened.
    pub fn new(folder: &Path) -> Result<Self, InvalidAdapterName> {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let name = folder.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().parse()?,
            folder,
        })
    }

    /// Bytes of its files that exist: the memory that it takes until it is merged. Reads the file system.
    pub fn bytes(&self) -> u64 {
        let sizes = Self::FILES.map(|name| fs::metadata(self.folder.join(name)));
        sizes.into_iter().flatten().map(|found| found.len()).sum()
    }

    /// The manifest that the folder must match where the model must match one: beside it, and named after it.
    pub fn manifest(&self) -> PathBuf {
        let mut file = self.folder.file_name().unwrap_or_default().to_owned();
        file.push(".sha256");
        self.folder.with_file_name(file)
    }
}
