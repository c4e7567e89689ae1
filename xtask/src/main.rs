//! `cargo xtask`: chores of this workspace that cargo does not do by itself.

mod error;
mod house;
mod macos;
mod mlx;
mod steps;
mod target_folder;
mod words;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::macos::MacosError;

/// The exit code that says: nothing failed, but nothing was checked either.
const NOT_CHECKED: u8 = 3;

/// Chores of this workspace that cargo does not do by itself.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    after_help = "Exit codes:
  0  done
  1  something is missing or failed: the message says what to type
  2  the command line is wrong
  3  macos: the standard library cannot be had, nothing was checked
  Where cargo is run at the end, its exit code."
)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Prepare MLX on Linux, then run cargo with it
    #[command(long_about = "Prepares MLX on Linux, then runs cargo with it.

Takes libmlx from PyPI, compiles mlx-c from cargo's registry, makes its bindings, and writes a cargo configuration \
that stands in for the build script of mlx-sys, all under target/mlx. What is there already is kept.
On a Mac there is nothing to prepare: cargo build --features mlx.

Examples:
  cargo xtask mlx --cpu -- test -p sanctum-engine --features mlx
  cargo xtask mlx --cuda -- build --release -p sanctum-server --features mlx
  cargo xtask mlx --cpu --dry-run")]
    Mlx(mlx::MlxArgs),
    /// Check the workspace for macOS with clippy, on Linux
    #[command(
        long_about = "Checks the workspace for macOS (aarch64-apple-darwin) with clippy, on Linux; warnings are errors.

Every target of every package first, then sanctum-engine and sanctum-server with MLX. No SDK is needed. The standard \
library's metadata is made once for each toolchain: from the toolchain's rust-src, or from Debian's package of the same \
version, which apt-get fetches. Everything lies in target/macos; the system stays as it is.
Where that source cannot be had, one line says so and the exit code is 3."
    )]
    Macos,
    /// Check the structure: no cycle between modules, no dependency that docs/architecture.md does not draw
    House,
    /// Check the words: none that xtask/words.toml lists
    Words,
    /// Write the bindings: run by `mlx`, with libclang's place in the environment
    #[command(hide = true)]
    Bindings {
        /// mlx-c's folder.
        mlx_c: PathBuf,
        /// The folder of the compiler's own headers.
        builtin: PathBuf,
        /// The file to write.
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let done: Result<ExitCode, Box<dyn Error>> = match Args::parse().chore {
        Chore::Mlx(args) => mlx::run(&args).map_err(Into::into),
        Chore::Macos => macos().map_err(Into::into),
        Chore::House => house::run(target_folder::workspace()).map_err(Into::into),
        Chore::Words => words::run(target_folder::workspace()).map_err(Into::into),
        Chore::Bindings {
            mlx_c,
            builtin,
            out,
        } => mlx::bindings::write(&mlx_c, &builtin, &out)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cargo xtask: {error}");
        ExitCode::FAILURE
    })
}

fn macos() -> Result<ExitCode, MacosError> {
    match macos::run() {
        Err(error @ MacosError::NoSource { .. }) => {
            eprintln!("cargo xtask macos: {error}");
            Ok(ExitCode::from(NOT_CHECKED))
        }
        done => done,
    }
}
