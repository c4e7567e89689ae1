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
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            let message = UntrustedText::multiline(&error.to_string());
            eprintln!("sanctum-launchd: {message}");
            ExitCode::from(error.exit_code())
        }
    }
}
