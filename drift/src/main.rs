//! `sanctum-drift`: see `sanctum-drift --help`.

use std::process::ExitCode;

use clap::Parser;
use sanctum_drift::Drift;
use sanctum_watch::{Args, EXIT_CODES, main as watch};

/// Compares a host with what was installed on it, and alerts when something differs
///
/// On the host itself it finds what `sanctum-launchd verify` finds. From another host it hashes the files over ssh, and
/// compares them with its own copy of the receipt (see `sanctum-launchd receipt --help`).
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    watch(&Command::parse().args, "drift", Drift::new)
}
