//! `sanctum-launchd`: installs a fleet's agents on a host, upgrades them, rolls them back and checks them.
//!
//! A deployment is decided, then executed:
//!
//! 1. `desired` computes what the host should look like (`HostState`) from fleet.toml and a release.
//! 2. `actual` observes what it looks like: its files, and its agents as launchd has them.
//! 3. `plan` returns the steps from one to the other. `--dry-run` prints them and stops (`deployment`).
//! 4. `execute` takes the steps, with a journal, so that the next command can continue after an interruption anywhere.
//!
//! A command reports through a `Console`, as text or as JSON. docs/architecture.md describes the steps of an upgrade.

pub mod args;

mod actual;
mod agent_control;
mod at_once;
mod commands;
mod console;
mod deployment;
mod desired;
mod doctor;
mod error;
mod execute;
mod fault;
mod fleet_check;
mod fleet_notes;
mod fleet_page;
mod host_alerts;
mod host_state;
mod log_excerpt;
mod log_lines;
mod maintenance;
mod new_fleet;
mod outside_checks;
mod plan;
mod plist;
mod post_deploy_checks;
mod prefix_check;
mod preflight;
mod push;
mod release_folder;
mod remote;
mod server_probe;
mod sign;
mod status;
mod store;
mod test_question;
mod trial;
mod undelivered;
mod wait;

use std::io::Write;

use args::{Args, Command};
use console::Console;
pub use error::Error;

/// Runs the command of `args` and writes its output to `out`.
///
/// # Errors
/// If the command fails, or has found problems. [`Error::exit_code`] is the exit code for it.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Error> {
    let mut console = Console::new(out, args.global.json, args.global.dry_run);
    let (global, console) = (&args.global, &mut console);
    match &args.command {
        Command::Init(args) => commands::init::run(global, args, console),
        Command::Check => commands::check::run(global, console),
        Command::Render(args) => commands::render::run(global, args, console),
        Command::Pack(args) => commands::pack::run(args, console),
        Command::Sign(args) => commands::sign::run(args, console),
        Command::Install(args) => commands::install::run(global, args, console),
        Command::Upgrade(args) => commands::upgrade::run(global, args, console),
        Command::Rollback(args) => commands::rollback::run(global, args, console),
        Command::Verify => commands::verify::run(global, console),
        Command::Receipt(args) => commands::receipt::run(global, args, console),
        Command::Doctor(args) => commands::doctor::run(global, args, console),
        Command::Push(args) => commands::push::run(global, args, console),
        Command::Status(args) => commands::status::run(global, args, console),
        Command::Alert(command) => commands::alert::run(global, command, console),
        Command::Logs(args) => commands::logs::run(global, args, console),
        Command::Stop(args) => commands::stop::run(global, args, console),
        Command::Start(args) => commands::start::run(global, args, console),
        Command::Restart(args) => commands::restart::run(global, args, console),
        Command::Pause(args) => commands::pause::pause(global, args, console),
        Command::Resume(args) => commands::pause::resume(global, args, console),
        Command::Uninstall(args) => commands::uninstall::run(global, args, console),
    }
}
