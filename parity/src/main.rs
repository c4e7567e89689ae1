//! `sanctum-parity`: see `sanctum-parity --help`.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::process::ExitCode;

use clap::Parser;
use sanctum_parity::{Compare, Consent, Parity, record};
use sanctum_watch::{Args, EXIT_CODES, main as watch, run_once};

/// Asks a server the questions of parity-smoke.json at temperature 0, and alerts when more than max_failures answers are wrong
///
/// Without --once it runs until SIGTERM, and keeps the reports of its last 30 runs in state/parity/NAME/TIME.json under the
/// fleet's home.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Command {
    #[command(flatten)]
    args: Args,
    /// Show how today's answers differ from the recorded ones, ask, and record them
    #[arg(long, conflicts_with_all = ["once", "exact"])]
    record: bool,
    /// Record without asking
    #[arg(long, requires = "record")]
    yes: bool,
    /// Run one check, against the recorded answers byte for byte instead of the spec
    #[arg(long)]
    exact: bool,
}

fn main() -> ExitCode {
    let mut command = Command::parse();
    if command.record {
        let consent = match command.yes {
            true => Consent::Given,
            false if stdin().is_terminal() => Consent::Ask(Box::new(stdin().lock())),
            false => Consent::Impossible,
        };
        command.args.once = true;
        return run_once(&command.args, "parity", async |config| {
            record(config, consent, &mut stdout(), &mut stderr()).await
        });
    }
    command.args.once |= command.exact;
    let compare = match command.exact {
        true => Compare::Recorded,
        false => Compare::Spec,
    };
    watch(&command.args, "parity", |config| {
        Parity::new(config, compare)
    })
}
