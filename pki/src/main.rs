//! `sanctum-pki`: see `sanctum-pki --help`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Parser;
use sanctum_config::logging::{self, Destination, LineFormat};
use sanctum_pki::args::Args;
use sanctum_pki::run;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = logging::start(Destination::StandardError, Some(LineFormat::Text), None) {
        eprintln!("sanctum-pki: {error}");
        return ExitCode::from(2);
    }
    let mut out = stdout().lock();
    let done = run(&args, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as in `sanctum-pki list | head`.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("sanctum-pki: {failure}");
            ExitCode::from(1)
        }
    }
}
