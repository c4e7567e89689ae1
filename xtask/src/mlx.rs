//! MLX on Linux: what mlx-sys' build script does on a Mac, done from the package registries.
//!
//! That script links macOS' frameworks, so it cannot run here; cargo lets a configuration stand in for it. The steps
//! are data, so that `--dry-run` prints exactly what would be run.

pub mod bindings;
mod cargo_config;
mod error;
mod mlxc;
mod source;
mod wheel;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

pub use error::MlxError;

use self::wheel::Wheel;
use crate::error::StepError;
use crate::steps::{self, Steps};
use crate::target_folder;

/// What to prepare, and what to run with it.
#[derive(Debug, clap::Args)]
pub struct MlxArgs {
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

/// Where everything is put.
#[derive(Debug)]
pub struct Places {
    /// `target/mlx/<device>`.
    root: PathBuf,
}

impl Places {
    fn new(device: &str) -> Self {
        Self {
            root: target_folder::path().join("mlx").join(device),
        }
    }

    /// libmlx.so, its headers and the BLAS libraries beside it.
    fn wheel(&self) -> PathBuf {
        self.root.join("wheel")
    }

    /// libclang.so.
    fn libclang(&self) -> PathBuf {
        self.root.join("libclang")
    }

    /// Object files and libmlxc.a.
    fn lib(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// What stands for mlx-sys' `OUT_DIR`: bindings.rs.
    fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// The configuration that stands in for the build script.
    fn config(&self) -> PathBuf {
        self.root.join("cargo.toml")
    }

    /// Flags for binaries that are to run without cargo.
    fn flags(&self) -> PathBuf {
        self.root.join("flags.toml")
    }
}

/// Prepares what is not there yet, then runs cargo if arguments for it were given.
pub fn run(args: &MlxArgs) -> Result<ExitCode, MlxError> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(MlxError::NotHere);
    }
    let wheel = if args.cuda { Wheel::CUDA } else { Wheel::CPU };
    let places = Places::new(wheel.device);
    let mut steps = Steps::new(args.dry_run);
    let source = source::find()?;
    wheel.unpack(&source, &places, &mut steps)?;
    mlxc::build(&source, &places, &mut steps)?;
    bindings::make(&source, &places, &mut steps)?;
    cargo_config::write(&wheel, &places, &mut steps)?;
    let mut cargo = Command::new(source::cargo());
    cargo.args(with_config(&args.cargo, &wheel, &places));
    // What cargo runs finds libmlx by this.
    let mut folders = vec![wheel::libmlx(&places)];
    let inherited = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&inherited));
    if let Ok(folders) = std::env::join_paths(folders) {
        cargo.env("LD_LIBRARY_PATH", folders);
    }
    if args.cuda {
        // Tests come to more CUDA graphs than MLX lets a process build in its life (the engine's bridge says why).
        cargo.env("MLX_ENABLE_CACHE_THRASHING_CHECK", "0");
    }
    if args.dry_run || args.cargo.is_empty() {
        println!("{}", steps::line(&cargo));
        return Ok(ExitCode::SUCCESS);
    }
    let status = cargo.status().map_err(|e| StepError::start(&cargo, e))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The folder of the bindings alone, made if they are not there: all that a check of another target needs.
pub fn bindings_folder(steps: &mut Steps) -> Result<PathBuf, MlxError> {
    let places = Places::new(Wheel::CPU.device);
    bindings::make(&source::find()?, &places, steps)?;
    Ok(places.out())
}

/// Cargo's arguments with the configuration behind the subcommand: clippy hears only what follows on it.
///
/// Only what is built to run without cargo gets flags: they would part its compiled crates from those of builds
/// without MLX.
fn with_config(arguments: &[String], wheel: &Wheel, places: &Places) -> Vec<String> {
    let usual = "build --release -p sanctum-server --features mlx";
    let mut words = match arguments {
        [] => usual.split(' ').map(str::to_owned).collect(),
        words => words.to_vec(),
    };
    let mut files = vec![places.config()];
    if wheel.partial || ["build", "b", "rustc"].contains(&words[0].as_str()) {
        files.push(places.flags());
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
    fn the_configuration_follows_on_the_subcommand() {
        let places = Places {
            root: "/t/mlx/cpu".into(),
        };
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            with_config(&words("clippy -p a"), &Wheel::CPU, &places),
            words("clippy --config /t/mlx/cpu/cargo.toml -p a")
        );
        let both = "--config /t/mlx/cpu/cargo.toml --config /t/mlx/cpu/flags.toml";
        assert_eq!(
            with_config(&[], &Wheel::CPU, &places)[..5],
            words(&format!("build {both}"))
        );
        assert_eq!(
            with_config(&words("test"), &Wheel::CUDA, &places),
            words(&format!("test {both}"))
        );
    }
}
