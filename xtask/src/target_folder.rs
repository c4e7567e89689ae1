//! The folders of the workspace: its root, and cargo's target folder, where the chores keep their files.

use std::path::{Path, PathBuf};

/// `$CARGO_TARGET_DIR`, or `target` in the workspace; absolute.
pub(crate) fn path() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    let target = std::path::absolute(&target).unwrap_or(target);
    // `..` is resolved now: the path is written into binaries.
    target.canonicalize().unwrap_or(target)
}

/// The workspace's root folder.
pub(crate) fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
