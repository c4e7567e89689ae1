//! The fleet's certificate authority (CA), in a folder.
//!
//! # Concepts
//!
//! - Every server and every client of a TLS listener has a certificate of this CA; no other CA is trusted. The CA's key is on
//!   one machine, which serves nothing.
//! - The **home** (`home`) is the folder with `certs/` and `secrets/`. A **holder** (`holder`) is a server or client that a
//!   certificate is issued to.
//! - The **ledger** (`ledger`) records what was issued and revoked, so that a certificate can be revoked after its file was
//!   replaced by a newer one. The revocation list is made from the ledger and from the existing list: losing one of the two
//!   loses no revocation.
//! - **Trust** (`trust`) is what every host can check, with or without the CA's key. A **CA session** (`ca_session`) is the CA
//!   with its key, for one command.
//! - **Changes** (`changes`) are the files that a command writes: all of them or none, or with `--dry-run` only their names.
//!
//! [`run`] is the whole program: a command reads the home, decides, and applies its changes.

pub mod args;
pub mod authority;
pub mod ca_session;
pub mod certificate;
pub mod changes;
pub mod clock;
mod commands;
pub mod error;
pub mod holder;
pub mod home;
pub mod ledger;
pub mod revocation_list;
pub mod san;
pub mod secret;
pub mod serial;
pub mod trust;

use std::io::Write;

use args::{Args, Command};
pub use error::PkiError;

/// Runs the command. Its output goes to `out`; nothing secret is printed.
///
/// # Errors
/// If the command fails; no file is half written then.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), PkiError> {
    let mut context = commands::CommandContext::new(&args.context, out)?;
    match &args.command {
        Command::Init(args) => commands::init::run(&mut context, args),
        Command::Server(args) => commands::issue::server(&mut context, args),
        Command::Client(args) => commands::issue::client(&mut context, args),
        Command::Fleet(args) => commands::fleet::run(&mut context, args),
        Command::List(args) => commands::list::run(&mut context, args),
        Command::Show(args) => commands::show::run(&mut context, args),
        Command::Renew(args) => commands::renew::run(&mut context, args),
        Command::Revoke(args) => commands::revoke::run(&mut context, args),
        Command::Crl(args) => commands::revoke::refresh(&mut context, args),
        Command::RotateCa(args) => commands::rotate::run(&mut context, args),
        Command::Bundle(args) => commands::bundle::run(&mut context, args),
        Command::Token(args) => commands::token::run(&mut context, args),
        Command::Manifest { command } => commands::manifest::run(&mut context, command),
    }
}
