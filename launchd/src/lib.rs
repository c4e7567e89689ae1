//! From `fleet.toml` to launchd, and back.
//!
//! A [`target::Target`] is what a host should look like: files and agents, made from fleet.toml and a
//! [`release::Release`], or recalled from an earlier deployment. [`change::between`] asks the host's files and launchd
//! what is missing, and [`deploy::Deployment`] carries that out so that it can be interrupted anywhere. What was done is
//! in a receipt, with which [`verify()`] compares the host; what it is made of is in a [`store::Store`], so that
//! everything can be taken back.
//!
//! [`run`] is the whole program. Everything is said through a [`report::Report`], for people or as JSON.

pub mod args;
pub mod ask;
pub mod change;
mod commands;
pub mod deploy;
mod doubts;
mod failure;
mod finding;
pub mod firewall;
pub mod flight;
pub mod journal;
pub mod log_excerpt;
pub mod memory;
pub mod offbox;
mod other_fleet;
pub mod plist;
pub mod preflight;
pub mod process;
pub mod question;
pub mod release;
pub mod remote;
pub mod report;
pub mod running;
pub mod sign;
pub mod site;
pub mod status;
pub mod store;
pub mod target;
pub mod tools;
pub mod trial;
pub mod undelivered;
mod verify;
pub mod wait;

use std::io::Write;

use args::{Args, Command};
pub use failure::Failure;
pub use finding::{Finding, Kind};
use report::Report;
pub use verify::{certificates, verify, warnings};

/// Does what the command line says. What there is to say goes to `out`.
///
/// # Errors
/// If it cannot be done, or what was asked for is not well; [`Failure::exit_code`] tells them apart.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let mut report = Report::new(out, args.site.json, args.site.dry_run);
    let (site, report) = (&args.site, &mut report);
    match &args.command {
        Command::Check => commands::check::run(site, report),
        Command::Render(args) => commands::render::run(site, args, report),
        Command::Pack(args) => commands::pack::run(args, report),
        Command::Sign(args) => commands::sign::run(args, report),
        Command::Install(args) => commands::install::run(site, args, report),
        Command::Upgrade(args) => commands::upgrade::run(site, args, report),
        Command::Rollback(args) => commands::rollback::run(site, args, report),
        Command::Verify => commands::verify::run(site, report),
        Command::Receipt(args) => commands::receipt::run(site, args, report),
        Command::Status(args) => commands::status::run(site, args, report),
        Command::Uninstall => commands::uninstall::run(site, report),
    }
}
