//! `sanctum-parity`: see `sanctum-parity --help`.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::process::ExitCode;

use clap::Parser;
use sanctum_parity::{Compare, Consent, Parity, record};
use sanctum_watch::{Args, EXIT_CODES, by_hand, main as watch};

/// Asks a server the questions of parity-smoke.json at temperature 0, and alerts when more than max_failures answers are wrong
///
/// Without --once it watches until it is told to stop, and keeps the reports of its last 30 runs in
/// state/parity/NAME/TIME.json under the fleet's home.
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
    /// Check once, against the recorded answers byte for byte instead of against the spec
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
        return by_hand(&command.args, "parity", async |setting| {
            record(setting, consent, &mut stdout(), &mut stderr()).await
        });
    }
    command.args.once |= command.exact;
    let compare = match command.exact {
        true => Compare::Recorded,
        false => Compare::Spec,
    };
    watch(&command.args, "parity", |setting| {
        Parity::new(setting, compare)
    })
}
