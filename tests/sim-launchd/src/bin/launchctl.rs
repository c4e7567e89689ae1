//! `launchctl`, simulated: see the library's documentation.

use std::path::PathBuf;
use std::process::ExitCode;

use sanctum_sim_launchd::daemon;
use sanctum_sim_launchd::wire::{self, CommandRequest};

fn main() -> ExitCode {
    let Some(folder) = std::env::var_os(wire::FOLDER).map(PathBuf::from) else {
        eprintln!("launchctl (simulated): {} is not set", wire::FOLDER);
        return ExitCode::from(64);
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let replied = if arguments.first().is_some_and(|word| word == "sim-daemon") {
        let until_stdin_closes = arguments
            .iter()
            .any(|word| word == wire::UNTIL_STDIN_CLOSES);
        daemon::run(&folder, until_stdin_closes).map(|()| wire::Reply::default())
    } else {
        ask(&folder, arguments)
    };
    match replied {
        Ok(reply) => {
            print!("{}", reply.out);
            eprint!("{}", reply.err);
            ExitCode::from(reply.code)
        }
        Err(error) => {
            eprintln!("launchctl (simulated): {error}");
            ExitCode::from(70)
        }
    }
}

fn ask(folder: &std::path::Path, arguments: Vec<String>) -> std::io::Result<wire::Reply> {
    let program = std::env::current_exe()?;
    let request = CommandRequest {
        arguments,
        folder: std::env::current_dir()?,
    };
    wire::ask(folder, &program, &request)
}
