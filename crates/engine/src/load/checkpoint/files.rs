//! The one place that opens a checkpoint's files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sanctum_manifest::{Bytes, TOOL_USE_TEMPLATE, VerifiedFiles, map_file};

use super::CheckpointError;

/// Where the files of a checkpoint are.
#[derive(Clone, Debug)]
pub enum Files {
    /// In a folder.
    Folder(PathBuf),
    /// In memory, by name.
    Memory(BTreeMap<String, Bytes>),
    /// In a folder, but only those that a manifest lists, and already open.
    Verified(Arc<VerifiedFiles>),
}

impl Files {
    /// Files in memory.
    pub fn memory<N: Into<String>, B: AsRef<[u8]> + Send + Sync + 'static>(
        files: impl IntoIterator<Item = (N, B)>,
    ) -> Self {
        Self::Memory(
            files
                .into_iter()
                .map(|(name, bytes)| (name.into(), Bytes::new(bytes)))
                .collect(),
        )
    }

    /// Opens a file if it is there. Large files are mapped.
    ///
    /// # Errors
    /// If it is there but cannot be opened, or if `name` is not a plain file name.
    pub fn open(&self, name: &str) -> Result<Option<Bytes>, CheckpointError> {
        let mut parts = Path::new(name).components();
        let is_plain = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        if !is_plain && name != TOOL_USE_TEMPLATE {
            return Err(CheckpointError::Damaged {
                file: "model.safetensors.index.json".into(),
                reason: format!("{name:?} is not the name of a file beside it"),
            });
        }
        match self {
            Files::Memory(files) => Ok(files.get(name).cloned()),
            Files::Verified(verified) => Ok(verified.files.get(name).cloned()),
            Files::Folder(folder) => {
                let path = folder.join(name);
                let opened = sanctum_config::files::open(&path);
                let mapped = opened.and_then(|file| map_file(&file));
                match mapped {
                    Ok(mapped) => Ok(Some(Bytes::new(mapped))),
                    Err(e) if e.kind() == io::ErrorKind::NotFound && folder.is_dir() => Ok(None),
                    Err(source) => Err(CheckpointError::Io { path, source }),
                }
            }
        }
    }

    /// Opens a file that must be there.
    ///
    /// # Errors
    /// As [`Files::open`], and if it is not there.
    pub fn require(&self, name: &str) -> Result<Bytes, CheckpointError> {
        self.open(name)?.ok_or_else(|| match self {
            Files::Verified(verified) => CheckpointError::Unlisted {
                path: self.path(name),
                manifest: verified.manifest.clone(),
            },
            _ => CheckpointError::Missing(self.path(name)),
        })
    }

    /// Where a file is, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Files::Folder(folder) => folder.join(name),
            Files::Verified(verified) => verified.folder.join(name),
            Files::Memory(_) => PathBuf::from(name),
        }
    }
}
