//! Where an adapter is, and what it is called.

use std::fs;
use std::path::{Path, PathBuf};

use super::config::{self, Layout};
use super::name::{AdapterName, NotAName};

/// Where an adapter lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSource {
    /// What it is called.
    pub name: AdapterName,
    /// Its folder.
    pub folder: PathBuf,
}

impl AdapterSource {
    /// The files of an adapter that are read: its settings, and its weights in one layout or the other.
    pub const FILES: [&str; 3] = [config::FILE, Layout::Mlx.weights(), Layout::Peft.weights()];

    /// The adapter in a folder, named after it. Links are followed here and now, so that the name stays true: the adapter is
    /// the folder that they lead to.
    ///
    /// # Errors
    /// If the folder's name cannot be an adapter's. Whether it can be read at all is found out when it is opened.
    pub fn new(folder: &Path) -> Result<Self, NotAName> {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let name = folder.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().parse()?,
            folder,
        })
    }

    /// Bytes of its files, as far as there are any: so much memory it takes until it is merged. It looks at the disk.
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
