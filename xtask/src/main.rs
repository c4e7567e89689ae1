//! `cargo xtask`: chores of this workspace that cargo does not do by itself.

mod bench_compare;
mod command_line;
mod demo;
mod error;
mod house;
mod macos;
mod mlx;
mod release;
mod steps;
mod target_folder;
mod words;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::macos::MacosError;

/// The exit code for: nothing failed, but nothing was checked either.
const NOT_CHECKED: u8 = 3;

/// Chores of this workspace that cargo does not do by itself.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    after_help = "Exit codes:
  0  done
  1  something is missing or failed: the message names the fix
  2  the command line is wrong
  3  macos: the standard library's source is not available, nothing was checked
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
that replaces the build script of mlx-sys, all under target/mlx. A second run does nothing.
On a Mac no preparation is needed: cargo build --features mlx.

Examples:
  cargo xtask mlx --cpu -- test -p sanctum-engine --features mlx
  cargo xtask mlx --cuda -- build --release -p sanctum-server --features mlx
  cargo xtask mlx --cpu --dry-run")]
    Mlx(mlx::MlxArgs),
    /// Check the workspace for macOS with clippy, on Linux
    #[command(
        long_about = "Checks the workspace for macOS (aarch64-apple-darwin) with clippy, on Linux; warnings are errors.

Every target of every package first, then sanctum-engine and sanctum-server with MLX. No SDK is needed. The standard \
library's metadata is built once for each toolchain: from the toolchain's rust-src, or from Debian's package of the same \
version, which apt-get fetches. Everything is kept in target/macos; system packages do not change.
If the source is not available, one line says so and the exit code is 3."
    )]
    Macos,
    /// Build a release: a folder, a tarball with its checksum, a Homebrew formula
    #[command(
        long_about = "Builds a release: the programs stripped, with MLX's kernels on a Mac, packed with their digests.

Leaves in target/dist: the folder sanctum-VERSION, which `sanctum-launchd install --release` and `push --release` take; the \
same as a tarball with its SHA-256; and sanctum.rb, a Homebrew formula that installs the tarball:
  brew install --formula target/dist/sanctum.rb"
    )]
    Release(release::ReleaseArgs),
    /// Show what Sanctum does: install, break, upgrade and roll back two simulated hosts
    #[command(
        long_about = "Shows what Sanctum does on two simulated hosts, on Linux or macOS: installs them, kills, freezes and damages the server, \
cuts a host's power, upgrades to bad releases and rolls back to a standby, with each command and each alert as it arrives.

Builds the workspace's programs first, as `cargo test --workspace` does. Everything else is in one temporary folder, which is removed \
at the end. On a terminal it stays up until Ctrl-C, with the addresses of its pages; with --once, or if standard input or output is not \
a terminal, it ends after the last step. A step that does something else than it says fails the demo: the message names the \
step, what was expected and seen, and the folder with the logs, and the exit code is 1."
    )]
    Demo(demo::DemoArgs),
    /// Measure Sanctum beside other programs, and render the table of docs/performance.md
    #[command(
        long_about = "Measures `sanctum-server bench` beside llama.cpp, ik_llama.cpp and mlx_lm, in turns, and records a row for each program \
and workload in docs/performance.jsonl: version, machine, tokens a second of each round, median, extremes, and the ratio to the \
best peer. With --render it writes the table of docs/performance.md from that file instead.

Only the programs that the command line names are measured. llama-bench measures one stream only.

Examples:
  cargo xtask bench-compare --threads 2 --gguf 0.8b.gguf --llama-bench PATH --ik-llama-bench PATH
  cargo xtask bench-compare --shape qwen3.5-27b --server target/release/sanctum-server --threads 16 \\
    --work 'prefill 2048,decode 64 x 1,decode 64 x 32,decode 64 x 1 @ 32768' --mlx-lm python3 --mlx-model 27b-4bit \\
    -- --backend mlx --prefill-chunk 2048
  cargo xtask bench-compare --render"
    )]
    BenchCompare(bench_compare::BenchCompareArgs),
    /// Check the structure: fail on an import cycle, and on a dependency or a repeated type name that docs/architecture.md does not list
    House(Workspace),
    /// Check the words: fail on a word that xtask/words.toml lists
    Words(Workspace),
    /// Write the bindings: run by `mlx`, with libclang's path in the environment
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

/// What `house` and `words` check.
#[derive(Debug, clap::Args)]
struct Workspace {
    /// The workspace to check, instead of the one that this program was built from
    #[arg(long, value_name = "FOLDER", default_value_os = target_folder::workspace().as_os_str(), hide_default_value = true)]
    workspace: PathBuf,
}

fn main() -> ExitCode {
    let done: Result<ExitCode, Box<dyn Error>> = match Args::parse().chore {
        Chore::Mlx(args) => mlx::run(&args).map_err(Into::into),
        Chore::Macos => macos().map_err(Into::into),
        Chore::Release(args) => release::run(&args).map_err(Into::into),
        Chore::Demo(args) => demo::run(&args).map_err(Into::into),
        Chore::BenchCompare(args) => bench_compare::run(&args).map_err(Into::into),
        Chore::House(args) => house::run(&args.workspace).map_err(Into::into),
        Chore::Words(args) => words::run(&args.workspace).map_err(Into::into),
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
