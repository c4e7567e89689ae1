//! `cargo xtask macos`: type-checks the workspace for macOS, on Linux.
//!
//! clippy needs no linker and no SDK, only the metadata of the standard library for the target. That is built from
//! the source of exactly the installed toolchain (`sysroot`) and kept in `target/macos`.

mod apt;
mod error;
mod folders;
mod sysroot;
mod toolchain;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

pub(crate) use error::MacosError;

use self::folders::MacosFolders;
use self::toolchain::{TARGET, Toolchain};
use crate::error::StepError;
use crate::mlx;
use crate::steps::CachedSteps;
use crate::target_folder;

/// Runs clippy for macOS: the whole workspace, then engine and server with MLX.
pub(crate) fn run() -> Result<ExitCode, MacosError> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(MacosError::NotLinux);
    }
    let folders = MacosFolders::at(target_folder::path().join("macos"));
    let toolchain = Toolchain::installed()?;
    let mut steps = CachedSteps::new(false);
    let sysroot = sysroot::make(&toolchain, &folders, &mut steps)?;
    let sdk = folders.sdk();
    fs::create_dir_all(&sdk).map_err(StepError::file(&sdk))?;

    eprintln!("clippy for {TARGET}: the workspace");
    let mut workspace = clippy(&folders, sysroot.as_deref());
    workspace.arg("--workspace");
    steps.run(deny_warnings(&mut workspace))?;

    let bindings = mlx::bindings_folder(&mut steps)?;
    steps.write(&folders.mlx_config(), &mlx_config(&bindings))?;
    eprintln!("clippy for {TARGET}: engine and server with MLX");
    let mut with_mlx = clippy(&folders, sysroot.as_deref());
    with_mlx
        // After the subcommand: clippy ignores a configuration in front of it.
        .arg("--config")
        .arg(folders.mlx_config())
        .args(["-p", "sanctum-engine", "-p", "sanctum-server"])
        .args(["--features", "sanctum-server/mlx"]);
    steps.run(deny_warnings(&mut with_mlx))?;
    Ok(ExitCode::SUCCESS)
}

fn clippy(folders: &MacosFolders, sysroot: Option<&Path>) -> Command {
    let mut cargo = Command::new(toolchain::cargo());
    cargo
        .arg("clippy")
        .current_dir(target_folder::workspace())
        .env("CARGO_TARGET_DIR", folders.build())
        // Build scripts look for Apple's compiler and SDK; a check does not need their output.
        .env("CC_aarch64_apple_darwin", "true")
        .env("AR_aarch64_apple_darwin", "true")
        .env("SDKROOT", folders.sdk())
        // Either would replace the flags below.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(sysroot) = sysroot {
        cargo.env(
            "CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS",
            format!("--sysroot {}", sysroot.display()),
        );
    }
    cargo
}

fn deny_warnings(clippy: &mut Command) -> &mut Command {
    clippy
        .args(["--all-targets", "--locked", "--target", TARGET])
        .args(["--", "-D", "warnings"])
}

/// Cargo uses this instead of running the build script of the package that links `mlx`.
fn mlx_config(bindings: &Path) -> String {
    format!(
        "# Written by cargo xtask macos: bindings instead of mlx-sys' build script.\n\
         [target.{TARGET}.mlx]\nrustc-link-lib = [\"static=mlxc\"]\n\n\
         [target.{TARGET}.mlx.rustc-env]\nOUT_DIR = {:?}\n",
        bindings.display().to_string()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mlx_config_names_bindings_for_the_target() {
        let table: toml::Table = mlx_config(Path::new("/t/mlx/cpu/out")).parse().unwrap();
        let mlx = &table["target"][TARGET]["mlx"];
        assert_eq!(mlx["rustc-env"]["OUT_DIR"].as_str(), Some("/t/mlx/cpu/out"));
    }

    #[test]
    fn clippy_denies_warnings_of_all_targets_with_the_private_sysroot() {
        let folders = MacosFolders::at("/t/macos".into());
        let mut command = clippy(&folders, Some(Path::new("/t/macos/sysroot")));
        let line = crate::command_line::command_line(deny_warnings(&mut command));
        for part in [
            "CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS='--sysroot /t/macos/sysroot'",
            "CARGO_TARGET_DIR=/t/macos/build",
            "clippy --all-targets --locked --target aarch64-apple-darwin -- -D warnings",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }
}
