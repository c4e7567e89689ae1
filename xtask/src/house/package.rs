//! The crates of the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::error::HouseError;

/// A crate of the workspace, as `cargo metadata` describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub name: String,
    /// Its Cargo.toml.
    pub manifest_path: PathBuf,
    pub targets: Vec<CargoTarget>,
    pub dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CargoTarget {
    pub kind: Vec<String>,
    pub src_path: PathBuf,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub name: String,
    /// None for a normal one, else `dev` or `build`.
    pub kind: Option<String>,
    /// The folder of a crate of the workspace.
    pub path: Option<PathBuf>,
}

impl Package {
    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new(""))
    }
}

impl CargoTarget {
    /// Libraries and programs; tests, examples and benchmarks are exempt.
    pub(super) fn is_ours(&self) -> bool {
        self.kind
            .iter()
            .any(|kind| matches!(kind.as_str(), "lib" | "bin"))
    }
}

/// All crates of the workspace.
///
/// # Errors
/// If `cargo metadata` fails.
pub(super) fn all(workspace: &Path) -> Result<Vec<Package>, HouseError> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(workspace)
        .output()
        .map_err(|error| HouseError::Metadata(error.to_string()))?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(HouseError::Metadata(problem));
    }
    serde_json::from_slice::<Metadata>(&output.stdout)
        .map(|metadata| metadata.packages)
        .map_err(|error| HouseError::Metadata(error.to_string()))
}
