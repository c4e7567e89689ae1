//! `sanctum-guardian`: see `sanctum-guardian --help`.

use std::process::ExitCode;

use clap::Parser;
use sanctum_guardian::Guardian;
use sanctum_watch::{Args, EXIT_CODES, main as watch};

/// Restarts a server that hangs or is dead, and leaves one alone that is busy
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    watch(&Command::parse().args, "guardian", Guardian::new)
}
