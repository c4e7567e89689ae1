//! The standard library for macOS as metadata: all that a check needs of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folders::MacosFolders;
use super::toolchain::{self, TARGET, Toolchain};
use super::{MacosError, apt};
use crate::error::StepError;
use crate::steps::CachedSteps;

/// Builds it once for each toolchain. None if the toolchain has it installed.
pub(super) fn make(
    toolchain: &Toolchain,
    folders: &MacosFolders,
    steps: &mut CachedSteps,
) -> Result<Option<PathBuf>, MacosError> {
    if toolchain.has_target() {
        return Ok(None);
    }
    let sysroot = folders.sysroot();
    let title = format!(
        "the standard library of Rust {} for {TARGET}",
        toolchain.release
    );
    steps.once(&title, &sysroot, &toolchain.description, |steps| {
        let work = sysroot.join("work");
        fs::create_dir_all(&work).map_err(StepError::file(&work))?;
        let library = source(toolchain, &work, steps)?;
        only_rlib(&library.join("std/Cargo.toml"))?;
        check(&library, &work.join("build"), steps)?;
        let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
        keep_metadata(&work.join("build"), &libraries)?;
        fs::remove_dir_all(&work).map_err(StepError::file(&work))?;
        Ok::<_, MacosError>(())
    })?;
    Ok(Some(sysroot))
}

/// The library's source in `work`: the toolchain's own, or Debian's package of the same version.
fn source(toolchain: &Toolchain, work: &Path, steps: &CachedSteps) -> Result<PathBuf, MacosError> {
    if let Some(own) = toolchain.std_source() {
        let mut copy = Command::new("cp");
        steps.run(copy.arg("-r").arg(own).arg(work))?;
    } else {
        let reason = |reason| MacosError::NoSource {
            release: toolchain.release.clone(),
            reason,
        };
        let package = apt::rust_src(&toolchain.release, &work.join("apt")).map_err(reason)?;
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--fsys-tarfile").arg(package);
        let mut tar = Command::new("tar");
        tar.args(["-x", "--strip-components=4", "-C"]).arg(work);
        tar.arg(format!("./usr/src/rustc-{}/library", toolchain.release));
        steps.pipe(&mut unpack, &mut tar)?;
    }
    Ok(work.join("library"))
}

/// Removes the dylib, which would be linked.
fn only_rlib(manifest: &Path) -> Result<(), StepError> {
    let text = fs::read_to_string(manifest).map_err(StepError::file(manifest))?;
    let text = text.replace(
        r#"crate-type = ["dylib", "rlib"]"#,
        r#"crate-type = ["rlib"]"#,
    );
    fs::write(manifest, text).map_err(StepError::file(manifest))
}

fn check(library: &Path, build: &Path, steps: &CachedSteps) -> Result<(), StepError> {
    let mut cargo = Command::new(toolchain::cargo());
    cargo
        .args(["check", "--quiet", "--release", "--target", TARGET])
        .args(["--features", "panic-unwind,backtrace", "--manifest-path"])
        .arg(library.join("sysroot/Cargo.toml"))
        .env("CARGO_TARGET_DIR", build)
        // The standard library uses unstable features.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS",
            "-Zforce-unstable-if-unmarked",
        )
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    steps.run(&mut cargo)
}

/// Copies the metadata that the check produced to where rustc finds it.
fn keep_metadata(build: &Path, libraries: &Path) -> Result<(), StepError> {
    fs::create_dir_all(libraries).map_err(StepError::file(libraries))?;
    let made = build.join(TARGET).join("release/deps");
    let entries = fs::read_dir(&made).map_err(StepError::file(&made))?;
    for entry in entries {
        let path = entry.map_err(StepError::file(&made))?.path();
        let name = path.file_name().unwrap_or_default();
        // The package `sysroot` is empty.
        let itself = name.to_string_lossy().starts_with("libsysroot-");
        if path.extension().is_some_and(|found| found == "rmeta") && !itself {
            fs::copy(&path, libraries.join(name)).map_err(StepError::file(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_kept_without_the_empty_package() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder
            .path()
            .join("build")
            .join(TARGET)
            .join("release/deps");
        fs::create_dir_all(&made).unwrap();
        for name in ["libstd-1.rmeta", "libsysroot-2.rmeta", "std-1.d"] {
            fs::write(made.join(name), "").unwrap();
        }
        let kept = folder.path().join("lib");
        keep_metadata(&folder.path().join("build"), &kept).unwrap();
        let names: Vec<_> = fs::read_dir(kept)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["libstd-1.rmeta"]);
    }

    #[test]
    fn std_is_built_as_rlib_only() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        fs::write(&manifest, "[lib]\ncrate-type = [\"dylib\", \"rlib\"]\n").unwrap();
        only_rlib(&manifest).unwrap();
        let text = fs::read_to_string(manifest).unwrap();
        assert_eq!(text, "[lib]\ncrate-type = [\"rlib\"]\n");
    }
}
