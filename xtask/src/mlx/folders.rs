//! Where the parts of MLX are kept.

use std::path::PathBuf;

use crate::target_folder;

/// The folders of one device.
#[derive(Debug)]
pub(crate) struct MlxFolders {
    /// `target/mlx/<device>`.
    root: PathBuf,
}

impl MlxFolders {
    /// Those of `device` in cargo's target folder.
    pub(crate) fn new(device: &str) -> Self {
        Self::at(target_folder::path().join("mlx").join(device))
    }

    /// Those below `root`.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// libmlx.so, its headers and the BLAS libraries beside it.
    pub(crate) fn wheel(&self) -> PathBuf {
        self.root.join("wheel")
    }

    /// libclang.so.
    pub(crate) fn libclang(&self) -> PathBuf {
        self.root.join("libclang")
    }

    /// Object files and libmlxc.a.
    pub(crate) fn lib(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// Replaces mlx-sys' `OUT_DIR`: bindings.rs.
    pub(crate) fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// The cargo configuration that replaces mlx-sys' build script.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("cargo.toml")
    }

    /// Flags for binaries that run without cargo.
    pub(crate) fn flags(&self) -> PathBuf {
        self.root.join("flags.toml")
    }
}
