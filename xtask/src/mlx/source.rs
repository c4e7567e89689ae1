//! The mlx-sys package in cargo's registry folder, and the version of MLX that it pins.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::MlxError;
use crate::error::StepError;

/// The unpacked mlx-sys package.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its version.
    pub sys: String,
    /// The version of MLX that it pins.
    pub mlx: String,
    /// mlx-c's root folder in it.
    pub mlx_c: PathBuf,
}

/// The cargo that runs this program.
pub(super) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Locates the package with `cargo metadata`, which fetches it if it is missing.
pub(super) fn find() -> Result<Source, MlxError> {
    let mut command = Command::new(cargo());
    command
        .args(["metadata", "--format-version", "1", "--all-features"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .args(["--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .map_err(|e| StepError::start(&command, e))?;
    if !output.status.success() {
        return Err(StepError::failed(&command).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| MlxError::NoSource(error.to_string()))?;
    let package = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "mlx-sys")
        .ok_or_else(|| MlxError::NoSource("no member depends on it".into()))?;
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let manifest = PathBuf::from(text("manifest_path"));
    let mlx_c = manifest.with_file_name("src").join("mlx-c");
    Ok(Source {
        sys: text("version"),
        mlx: pinned(&mlx_c)?,
        mlx_c,
    })
}

/// The version of MLX that mlx-c's CMakeLists.txt would fetch.
fn pinned(mlx_c: &Path) -> Result<String, MlxError> {
    let path = mlx_c.join("CMakeLists.txt");
    let text = fs::read_to_string(&path).map_err(StepError::file(&path))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("GIT_TAG v"))
        .map(|tag| tag.trim_end_matches(')').to_owned())
        .ok_or_else(|| MlxError::NoSource(format!("{} pins no tag of MLX", path.display())))
}

impl Source {
    /// mlx-c's C++ files.
    pub(crate) fn units(&self) -> Result<Vec<PathBuf>, MlxError> {
        files(&self.mlx_c.join("mlx/c"), "cpp")
    }
}

/// The files in `folder` with this extension, sorted.
pub(super) fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, MlxError> {
    let entries = fs::read_dir(folder).map_err(StepError::file(folder))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    Ok(files)
}
