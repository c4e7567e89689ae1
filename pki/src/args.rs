//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use sanctum_config::Label;

use crate::clock::{Days, Moment};
use crate::crl::Reason;
use crate::san::San;
use crate::serial::Serial;

/// The fleet's certificate authority: certificates, revocation, tokens, and the keys that sign manifests.
///
/// Everything lies in the fleet's home ([fleet] home in fleet.toml, else ~/.sanctum): certs/ and secrets/. Keep the home
/// that holds certs/ca.key and secrets/manifest.key on a machine that serves nothing, and take to the others what
/// `sanctum-pki bundle HOST` puts together. Nothing secret is ever printed.
#[derive(Debug, Parser)]
#[command(
    name = "sanctum-pki",
    version,
    after_help = "Exit codes:
  0  done (with --dry-run: could be done)
  1  not done: the message says why and what to mend; files are as they were
  2  the command line is wrong

First set-up, on the machine that keeps the CA:
  sanctum-pki --config fleet.toml init
  sanctum-pki --config fleet.toml fleet
  sanctum-pki --config fleet.toml bundle mini"
)]
pub struct Args {
    /// Where, and whether at all.
    #[command(flatten)]
    pub site: SiteArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where everything lies, and whether anything is written.
#[derive(Debug, ClapArgs)]
pub struct SiteArgs {
    /// The fleet's file; `fleet` and `bundle` need it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The home folder [default: [fleet] home of fleet.toml, else ~/.sanctum]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Say what would be written, and write nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the CA: its key, its certificate (5 years) and an empty revocation list
    Init(InitArgs),
    /// Issue a server's certificate (397 days) with a new key
    Server(ServerArgs),
    /// Issue a client's certificate (365 days) with a new key
    Client(ClientArgs),
    /// Issue all that fleet.toml needs and that is not there and good: run it after every change of fleet.toml
    ///
    /// A server certificate for each [servers.NAME], for localhost, its host's address and the addresses that it listens
    /// on; a client certificate for each [watch.NAME]. What is good is kept. What is missing, damaged, expired or signed
    /// by another CA is issued anew, and so is a server's certificate that lacks one of its addresses. What was revoked
    /// stays so until `renew NAME`.
    Fleet(FleetArgs),
    /// List all certificates here
    List(ListArgs),
    /// Show one certificate, or `ca`
    Show(ShowArgs),
    /// Issue certificates anew, each with a new key
    ///
    /// The certificate before it stays valid until its own end, so that hosts can take over the new one in their time;
    /// if its key was seen by others, revoke it first. The revocation list is signed anew when less than half of its
    /// time is left.
    Renew(RenewArgs),
    /// Revoke every certificate that a name has been issued and that is still valid
    Revoke(RevokeArgs),
    /// Sign the revocation list anew (400 days); any revoke does so too
    Crl(CrlArgs),
    /// Replace the CA in three steps, with a time in which both are trusted
    ///
    /// 1. rotate-ca, then bundle and deliver to every host: all of them trust both CAs.
    /// 2. renew --all, then bundle and deliver again: all of them use certificates of the new one.
    /// 3. rotate-ca --finish, then bundle and deliver once more: the former one is trusted no longer.
    #[command(verbatim_doc_comment)]
    RotateCa(RotateArgs),
    /// Put together what one host needs: never the CA's key, never the manifests' signing key
    Bundle(BundleArgs),
    /// Make a server's bearer token: 32 random bytes as 64 hex digits
    Token(TokenArgs),
    /// Make, sign and check the manifests of models
    Manifest {
        /// What to do with them.
        #[command(subcommand)]
        command: ManifestCommand,
    },
}

/// From when until when.
#[derive(Clone, Copy, Debug, Default, ClapArgs)]
pub struct ValidityArgs {
    /// How many days it is valid; never beyond the CA's own end
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: Option<u32>,
    /// Its first moment: 2026-11-30 or 2026-11-30T12:00:00Z [default: five minutes ago]
    #[arg(long, value_name = "MOMENT")]
    pub not_before: Option<Moment>,
}

/// For `init`.
#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// From when until when.
    #[command(flatten)]
    pub validity: ValidityArgs,
    /// Replace the CA that is there: everything that it issued is worth nothing then
    #[arg(long)]
    pub force: bool,
}

/// For `server`.
#[derive(Debug, ClapArgs)]
pub struct ServerArgs {
    /// The server's name, as in [servers.NAME]
    #[arg(default_value = "server")]
    pub name: Label,
    /// An address or host name that clients use, besides localhost and those of fleet.toml; may be repeated
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub san: Vec<San>,
    /// From when until when.
    #[command(flatten)]
    pub validity: ValidityArgs,
    /// Replace the key and certificate that are there
    #[arg(long)]
    pub force: bool,
}

/// For `client`.
#[derive(Debug, ClapArgs)]
pub struct ClientArgs {
    /// The client's name: it will stand in the servers' audit logs
    pub name: Label,
    /// From when until when.
    #[command(flatten)]
    pub validity: ValidityArgs,
    /// Replace the key and certificate that are there
    #[arg(long)]
    pub force: bool,
}

/// For `fleet`.
#[derive(Debug, ClapArgs)]
pub struct FleetArgs {
    /// Say it in JSON
    #[arg(long)]
    pub json: bool,
}

/// For `list`.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Say it in JSON
    #[arg(long)]
    pub json: bool,
}

/// For `show`.
#[derive(Debug, ClapArgs)]
pub struct ShowArgs {
    /// A server or client, or `ca`
    pub name: Label,
    /// Say it in JSON
    #[arg(long)]
    pub json: bool,
}

/// For `renew`.
#[derive(Debug, ClapArgs)]
pub struct RenewArgs {
    /// Servers and clients
    #[arg(
        required_unless_present = "all",
        conflicts_with = "all",
        value_name = "NAME"
    )]
    pub names: Vec<Label>,
    /// All that are here, except those that are revoked
    #[arg(long)]
    pub all: bool,
    /// Only those that end within so many days (30d), or that the former CA signed
    #[arg(long, value_name = "DAYS")]
    pub within: Option<Days>,
    /// From when until when.
    #[command(flatten)]
    pub validity: ValidityArgs,
}

/// For `revoke`.
#[derive(Debug, ClapArgs)]
pub struct RevokeArgs {
    /// A server or client
    #[arg(required_unless_present = "serial", conflicts_with = "serial")]
    pub name: Option<Label>,
    /// One certificate by its number, as `show` and the servers' logs give it
    #[arg(long, value_name = "HEX")]
    pub serial: Option<Serial>,
    /// What the list says about it
    #[arg(long, value_enum, default_value_t)]
    pub reason: Reason,
}

/// For `crl`.
#[derive(Debug, ClapArgs)]
pub struct CrlArgs {
    /// How many days the list is valid
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500), default_value_t = crate::authority::CRL_DAYS)]
    pub days: u32,
}

/// For `rotate-ca`.
#[derive(Debug, ClapArgs)]
pub struct RotateArgs {
    /// Trust the former CA no longer, and remove its key
    #[arg(long, conflicts_with_all = ["days", "not_before"])]
    pub finish: bool,
    /// Finish although certificates of the former CA are in use here
    #[arg(long, requires = "finish")]
    pub force: bool,
    /// From when until when.
    #[command(flatten)]
    pub validity: ValidityArgs,
}

/// For `bundle`.
#[derive(Debug, ClapArgs)]
pub struct BundleArgs {
    /// A host of fleet.toml
    pub host: Label,
    /// The folder to make [default: bundle-HOST]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// For `token`.
#[derive(Debug, ClapArgs)]
pub struct TokenArgs {
    /// The server's name, as in [servers.NAME]
    #[arg(default_value = "server")]
    pub name: Label,
    /// Replace the token that is there: clients that use it are refused once the server has read the new one
    #[arg(long)]
    pub force: bool,
}

/// What to do with manifests.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Make the key pair: secrets/manifest.key signs, certs/manifest.pub checks
    Keygen {
        /// Replace the pair; the former public key is kept as certs/manifest-old.pub
        #[arg(long)]
        force: bool,
    },
    /// List a folder's files with their SHA-256 digests
    Create {
        /// The model's folder
        folder: PathBuf,
        /// The manifest to write [default: FOLDER.sha256]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Sign a manifest: the signature is written beside it, with .sig after its name
    Sign {
        /// The manifest
        manifest: PathBuf,
        /// The signing key [default: secrets/manifest.key in the home]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Check a folder against its signed manifest
    Verify {
        /// The model's folder
        folder: PathBuf,
        /// The manifest [default: FOLDER.sha256]
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// A public key that may have signed it; may be repeated [default: certs/manifest.pub and manifest-old.pub]
        #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
        key: Vec<PathBuf>,
        /// Check the digests only, and take the manifest as it lies there
        #[arg(long)]
        unsigned: bool,
    },
}
