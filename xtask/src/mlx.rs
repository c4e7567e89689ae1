//! MLX on Linux: what mlx-sys' build script does on a Mac, done with files from PyPI and crates.io.
//!
//! That script links macOS' frameworks, so it cannot run on Linux; cargo accepts a configuration in its place.
//! `--dry-run` prints exactly the commands that would run.

pub(crate) mod bindings;
mod cargo_config;
mod error;
mod folders;
mod mlxc;
mod source;
mod wheel;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

pub(crate) use error::MlxError;

use self::folders::MlxFolders;
use self::wheel::Wheel;
use crate::command_line::command_line;
use crate::error::StepError;
use crate::steps::CachedSteps;

/// What to prepare, and what to run with it.
#[derive(Debug, clap::Args)]
pub(crate) struct MlxArgs {
    /// For MLX's CPU device: correctness, not speed
    #[arg(long, required_unless_present = "cuda", conflicts_with = "cuda")]
    cpu: bool,
    /// For NVIDIA GPUs (CUDA 13); builds without one
    #[arg(long)]
    cuda: bool,
    /// Print what would be done
    #[arg(long)]
    dry_run: bool,
    /// What to run afterwards: cargo's own arguments
    #[arg(last = true, value_name = "CARGO ARGUMENTS")]
    cargo: Vec<String>,
}

/// Prepares what is missing, then runs cargo if arguments for it were given.
pub(crate) fn run(args: &MlxArgs) -> Result<ExitCode, MlxError> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(MlxError::NotHere);
    }
    let wheel = if args.cuda { Wheel::CUDA } else { Wheel::CPU };
    let folders = MlxFolders::new(wheel.device);
    let mut steps = CachedSteps::new(args.dry_run);
    let source = source::find()?;
    wheel.unpack(&source, &folders, &mut steps)?;
    mlxc::build(&source, &folders, &mut steps)?;
    bindings::make(&source, &folders, &mut steps)?;
    cargo_config::write(&wheel, &folders, &mut steps)?;
    let mut cargo = Command::new(source::cargo());
    cargo.args(with_config(&args.cargo, &wheel, &folders));
    // Programs that cargo runs find libmlx here.
    let mut folders = vec![wheel::libmlx(&folders)];
    let inherited = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&inherited));
    if let Ok(folders) = std::env::join_paths(folders) {
        cargo.env("LD_LIBRARY_PATH", folders);
    }
    if args.cuda {
        // Tests build more CUDA graphs than MLX allows in one process (the engine's bridge explains why).
        cargo.env("MLX_ENABLE_CACHE_THRASHING_CHECK", "0");
    }
    if args.dry_run || args.cargo.is_empty() {
        println!("{}", command_line(&cargo));
        return Ok(ExitCode::SUCCESS);
    }
    let status = cargo.status().map_err(|e| StepError::start(&cargo, e))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The folder of the bindings, generated if missing: all that a check of another target needs.
pub(crate) fn bindings_folder(steps: &mut CachedSteps) -> Result<PathBuf, MlxError> {
    let folders = MlxFolders::new(Wheel::CPU.device);
    bindings::make(&source::find()?, &folders, steps)?;
    Ok(folders.out())
}

/// Cargo's arguments with `--config` after the subcommand: clippy ignores a configuration in front of it.
///
/// Only programs that will run without cargo get the flags, because other flags mean separately compiled crates.
fn with_config(arguments: &[String], wheel: &Wheel, folders: &MlxFolders) -> Vec<String> {
    let usual = "build --release -p sanctum-server --features mlx";
    let mut words = match arguments {
        [] => usual.split(' ').map(str::to_owned).collect(),
        words => words.to_vec(),
    };
    let mut files = vec![folders.config()];
    if wheel.partial || ["build", "b", "rustc"].contains(&words[0].as_str()) {
        files.push(folders.flags());
    }
    let config = files
        .iter()
        .flat_map(|file| ["--config".to_owned(), file.display().to_string()]);
    words.splice(1..1, config);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_follows_the_subcommand() {
        let folders = MlxFolders::at("/t/mlx/cpu".into());
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            with_config(&words("clippy -p a"), &Wheel::CPU, &folders),
            words("clippy --config /t/mlx/cpu/cargo.toml -p a")
        );
        let both = "--config /t/mlx/cpu/cargo.toml --config /t/mlx/cpu/flags.toml";
        assert_eq!(
            with_config(&[], &Wheel::CPU, &folders)[..5],
            words(&format!("build {both}"))
        );
        assert_eq!(
            with_config(&words("test"), &Wheel::CUDA, &folders),
            words(&format!("test {both}"))
        );
    }
}
