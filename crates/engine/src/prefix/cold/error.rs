//! Why a cache folder cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// A cache folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// The folder cannot be read or written.
    #[error("cannot use the cache folder {}: {source}{}", folder.display(), fix(source))]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process serves from the folder.
    #[error(
        "the cache folder {} is in use by {}; stop it, or give this server another cache_dir",
        folder.display(),
        holder(*process)
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The number of the process, if it has been written already.
        process: Option<u32>,
    },
    /// The thread that writes to the folder has ended.
    #[error(
        "cannot use the cache folder {}: the thread that writes to it has panicked; restart the server, and report the panic \
         that the log has before this line",
        folder.display()
    )]
    WriterEnded {
        /// The folder.
        folder: PathBuf,
    },
    /// The system gives no thread for the folder.
    #[error(
        "cannot use the cache folder: no thread: {0}; restart when the system has fewer threads"
    )]
    Thread(io::Error),
}

impl ColdError {
    /// The error without any path, for readers who may not be authorized to see one. What the system or a check says about the
    /// folder may name paths, so only its kind is in it.
    pub(crate) fn without_path(&self) -> String {
        match self {
            Self::Folder { source, .. } => format!(
                "cannot use the cache folder: {}{}; the server's log and GET /status name the folder",
                source.kind(),
                fix(source)
            ),
            Self::InUse { process, .. } => format!(
                "the cache folder is in use by {}; stop it, or give this server another cache_dir",
                holder(*process)
            ),
            Self::WriterEnded { .. } => {
                "cannot use the cache folder: the thread that writes to it has panicked; restart the server, and report the \
                 panic that the log has"
                    .to_owned()
            }
            Self::Thread(_) => self.to_string(),
        }
    }

    /// The system's error about a folder.
    pub(super) fn folder(folder: &Path, source: io::Error) -> Self {
        Self::Folder {
            folder: folder.to_owned(),
            source,
        }
    }
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(
        || "another process".to_owned(),
        |process| format!("process {process}"),
    )
}

/// What makes the folder usable again. Errors that are not the system's have it already.
fn fix(source: &io::Error) -> &'static str {
    match source.kind() {
        _ if source.raw_os_error().is_none() => "",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free space on its volume, or lower cache_dir_limit_gb"
        }
        io::ErrorKind::PermissionDenied => {
            "; give this user access to it with chmod 700, or name another cache_dir"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount its volume writable, or name another cache_dir"
        }
        io::ErrorKind::NotFound => "; mount its volume, or create it",
        _ => "; check its volume, or name another cache_dir",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_the_system_names_its_fix() {
        const ENOSPC: i32 = 28;
        let text = |source| ColdError::folder(Path::new("/cache"), source).to_string();
        let full = text(io::Error::from_raw_os_error(ENOSPC));
        assert!(full.starts_with("cannot use the cache folder /cache: "));
        assert!(full.contains("; free space on its volume"), "{full}");
        let ours = text(io::Error::other("it is too warm; cool it"));
        assert!(ours.ends_with("it is too warm; cool it"), "{ours}");
    }

    #[test]
    fn error_without_path_has_no_path_and_names_the_fix() {
        const ENOSPC: i32 = 28;
        let folder = PathBuf::from("/secret/cache");
        let named = io::Error::new(
            io::ErrorKind::PermissionDenied,
            "type: chmod 700 /secret/cache",
        );
        let errors = [
            (ColdError::folder(&folder, named), "GET /status"),
            (
                ColdError::folder(&folder, io::Error::from_raw_os_error(ENOSPC)),
                "free space",
            ),
            (
                ColdError::InUse {
                    folder: folder.clone(),
                    process: Some(7),
                },
                "process 7",
            ),
            (ColdError::WriterEnded { folder }, "restart the server"),
        ];
        for (error, fix) in errors {
            assert!(error.to_string().contains("/secret"));
            let public = error.without_path();
            assert!(
                !public.contains("/secret") && public.contains(fix),
                "{public}"
            );
        }
    }
}
