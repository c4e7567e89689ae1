//! The fleet's certificate authority, in a folder.
//!
//! Every server shows a certificate of this CA, and every client that speaks to a TLS listener shows one too; nobody
//! else's certificates count. The CA's key lies on one machine, which serves nothing. [`run`] is the whole program:
//! each command reads the folder ([`home`]), decides, and hands what it wants written to [`changes`], which writes it
//! whole or not at all and knows how to only say what it would write.
//!
//! What was issued and revoked is remembered in a [`ledger`], so that a certificate can be revoked after its file was
//! replaced by a newer one. The revocation list is made from the ledger and from the list that is there already:
//! losing one of the two loses no revocation.

pub mod args;
pub mod authority;
pub mod certificate;
pub mod changes;
pub mod clock;
mod commands;
pub mod crl;
pub mod failure;
pub mod holder;
pub mod home;
pub mod ledger;
pub mod office;
pub mod san;
pub mod secret;
pub mod serial;
pub mod trust;

use std::io::Write;

use args::{Args, Command};
pub use failure::PkiError;

/// Does what the command line says. What there is to say goes to `out`, never anything secret.
///
/// # Errors
/// If it cannot be done; nothing is half done then.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), PkiError> {
    let mut site = commands::Site::new(&args.site, out)?;
    match &args.command {
        Command::Init(args) => commands::init::run(&mut site, args),
        Command::Server(args) => commands::issue::server(&mut site, args),
        Command::Client(args) => commands::issue::client(&mut site, args),
        Command::Fleet(args) => commands::fleet::run(&mut site, args),
        Command::List(args) => commands::list::run(&mut site, args),
        Command::Show(args) => commands::show::run(&mut site, args),
        Command::Renew(args) => commands::renew::run(&mut site, args),
        Command::Revoke(args) => commands::revoke::run(&mut site, args),
        Command::Crl(args) => commands::revoke::refresh(&mut site, args),
        Command::RotateCa(args) => commands::rotate::run(&mut site, args),
        Command::Bundle(args) => commands::bundle::run(&mut site, args),
        Command::Token(args) => commands::token::run(&mut site, args),
        Command::Manifest { command } => commands::manifest::run(&mut site, command),
    }
}
