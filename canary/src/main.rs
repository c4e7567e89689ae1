//! `sanctum-canary`: see `sanctum-canary --help`.

use std::process::ExitCode;

use clap::Parser;
use sanctum_canary::Canary;
use sanctum_watch::{Args, EXIT_CODES, main as watch};

/// Asks a server a question whose answer is known, and alerts when it is wrong or does not come
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    watch(&Command::parse().args, "canary", Canary::new)
}
