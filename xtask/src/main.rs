//! `cargo xtask`: chores of this workspace that cargo does not do by itself.

mod mlx;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of this workspace that cargo does not do by itself.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    after_help = "Exit codes:
  0  done
  1  something is missing or failed: the message says what to type
  2  the command line is wrong
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
    let done = match Args::parse().chore {
        Chore::Mlx(args) => mlx::run(&args),
        Chore::Bindings {
            mlx_c,
            builtin,
            out,
        } => mlx::bindings::write(&mlx_c, &builtin, &out).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cargo xtask: {error}");
        ExitCode::FAILURE
    })
}
