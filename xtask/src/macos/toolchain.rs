//! The installed Rust toolchain: its version, and the components that are installed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::MacosError;
use crate::error::StepError;

/// The target of the check.
pub(super) const TARGET: &str = "aarch64-apple-darwin";

/// The installed toolchain.
#[derive(Debug)]
pub(super) struct Toolchain {
    /// The output of `rustc -vV`, which identifies it.
    pub description: String,
    /// Such as `1.95.0`.
    pub release: String,
    /// Its root folder.
    sysroot: PathBuf,
}

/// The cargo that runs this program.
pub(super) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

impl Toolchain {
    /// Queries rustc.
    pub(super) fn installed() -> Result<Self, MacosError> {
        let description = rustc(&["-vV"])?;
        let release = release(&description).ok_or_else(|| MacosError::Rustc {
            program: program().to_string_lossy().into_owned(),
            output: description.clone(),
        })?;
        Ok(Self {
            release: release.to_owned(),
            sysroot: rustc(&["--print", "sysroot"])?.trim().into(),
            description,
        })
    }

    /// Whether the standard library for macOS is installed (`rustup target add`).
    pub(super) fn has_target(&self) -> bool {
        let libraries = self.sysroot.join("lib/rustlib").join(TARGET).join("lib");
        std::fs::read_dir(libraries).is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
            })
        })
    }

    /// The standard library's source, if it is installed (`rustup component add rust-src`).
    pub(super) fn std_source(&self) -> Option<PathBuf> {
        let library = self.sysroot.join("lib/rustlib/src/rust/library");
        library
            .join("sysroot/Cargo.toml")
            .is_file()
            .then_some(library)
    }
}

fn program() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn rustc(arguments: &[&str]) -> Result<String, MacosError> {
    let mut command = Command::new(program());
    command.args(arguments);
    let output = command
        .output()
        .map_err(|error| StepError::start(&command, error))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The release in what `rustc -vV` prints.
fn release(description: &str) -> Option<&str> {
    description
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_read_from_the_long_version() {
        let text = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nhost: x\nrelease: 1.95.0\n";
        assert_eq!(release(text), Some("1.95.0"));
        assert_eq!(release("no rustc"), None);
    }
}
