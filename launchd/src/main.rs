//! `sanctum-launchd`: see `sanctum-launchd --help`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Parser;
use sanctum_config::UntrustedText;
use sanctum_launchd::args::Args;
use sanctum_launchd::run;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut out = stdout().lock();
    let done = run(&args, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has read enough, as `sanctum-launchd status | head` does.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let said = UntrustedText::multiline(&failure.to_string());
            eprintln!("sanctum-launchd: {said}");
            ExitCode::from(failure.exit_code())
        }
    }
}
