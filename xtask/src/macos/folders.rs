//! Where the check for macOS keeps its files.

use std::path::PathBuf;

/// The folders of the check.
#[derive(Debug)]
pub(super) struct MacosFolders {
    /// `target/macos`.
    root: PathBuf,
}

impl MacosFolders {
    /// Those below `root`.
    pub(super) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The standard library's metadata.
    pub(super) fn sysroot(&self) -> PathBuf {
        self.root.join("sysroot")
    }

    /// What cargo writes during the check.
    pub(super) fn build(&self) -> PathBuf {
        self.root.join("build")
    }

    /// Empty; replaces Apple's SDK.
    pub(super) fn sdk(&self) -> PathBuf {
        self.root.join("sdk")
    }

    /// The cargo configuration that replaces mlx-sys' build script.
    pub(super) fn mlx_config(&self) -> PathBuf {
        self.root.join("mlx.toml")
    }
}
