//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use sanctum_config::Label;

use crate::clock::{Days, Moment};
use crate::revocation_list::Reason;
use crate::san::San;
use crate::serial::Serial;

/// The fleet's certificate authority: certificates, revocation, tokens, and the keys that sign manifests.
///
/// All files are in the fleet's home (key home of section fleet in fleet.toml, else ~/.sanctum): certs/ and secrets/. Keep the home that
/// holds certs/ca.key and secrets/manifest.key on a machine that serves nothing, and deliver the folder that
/// `sanctum-pki bundle HOST` creates to each host. Nothing secret is ever printed.
#[derive(Debug, Parser)]
#[command(
    name = "sanctum-pki",
    version,
    after_help = "Exit codes:
  0  done (with --dry-run: would succeed)
  1  failed: the message says why and what to do; no file was changed
  2  the command line is wrong

First set-up, on the machine that keeps the CA:
  sanctum-pki --config fleet.toml init
  sanctum-pki --config fleet.toml fleet
  sanctum-pki --config fleet.toml bundle mini"
)]
pub struct Args {
    /// Which home, and whether to write.
    #[command(flatten)]
    pub context: CommonArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, ClapArgs)]
pub struct CommonArgs {
    /// The fleet's file; `fleet` and `bundle` need it
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The home folder [default: home in section fleet of fleet.toml, else ~/.sanctum]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Print what would be written, and write nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the CA: its key, its certificate (5 years) and an empty revocation list
    Init(InitArgs),
    /// Issue a server's certificate (397 days) with a new key
    Server(ServerArgs),
    /// Issue a client's certificate (365 days) with a new key
    Client(ClientArgs),
    /// Issue the certificates that fleet.toml needs and that are missing or not valid: run it after every change of fleet.toml
    ///
    /// A server certificate for each [servers.NAME], for localhost, its host's address and the addresses that it listens
    /// on; a client certificate for each [watch.NAME]. Valid certificates are kept. Missing, damaged and expired ones,
    /// those of another CA, and server certificates that lack an address are issued again. Revoked ones stay revoked until
    /// `renew NAME`.
    Fleet(FleetArgs),
    /// List all certificates
    List(ListArgs),
    /// Show one certificate, or `ca`
    Show(ShowArgs),
    /// Issue certificates again, each with a new key
    ///
    /// The previous certificate stays valid until it expires, so that you can deliver the new one later; if its key was
    /// exposed, revoke it first. The revocation list is signed again when less than half of its time is left.
    Renew(RenewArgs),
    /// Revoke every valid certificate of a name
    Revoke(RevokeArgs),
    /// Sign the revocation list again (400 days); revoke does so too
    Crl(CrlArgs),
    /// Replace the CA in three steps, with an overlap in which both are trusted
    ///
    /// 1. rotate-ca, then bundle and deliver to every host: all hosts trust both CAs.
    /// 2. renew --all, then bundle and deliver again: all hosts use certificates of the new CA.
    /// 3. rotate-ca --finish, then bundle and deliver once more: the former CA is no longer trusted.
    #[command(verbatim_doc_comment)]
    RotateCa(RotateArgs),
    /// Collect the files that one host needs: never the CA's key, never the manifests' signing key
    Bundle(BundleArgs),
    /// Create a server's bearer token: 32 random bytes as 64 hex digits
    Token(TokenArgs),
    /// Create, sign and verify the manifests of models
    Manifest {
        /// What to do with them.
        #[command(subcommand)]
        command: ManifestCommand,
    },
}

/// The validity period.
#[derive(Clone, Copy, Debug, Default, ClapArgs)]
pub struct ValidityArgs {
    /// How many days it is valid; never longer than the CA
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: Option<u32>,
    /// Its first moment: 2026-11-30 or 2026-11-30T12:00:00Z [default: five minutes ago]
    #[arg(long, value_name = "MOMENT")]
    pub not_before: Option<Moment>,
}

/// For `init`.
#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// The validity period.
    #[command(flatten)]
    pub validity: ValidityArgs,
    /// Replace the existing CA: all its certificates become invalid
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
    /// The validity period.
    #[command(flatten)]
    pub validity: ValidityArgs,
    /// Replace the existing key and certificate
    #[arg(long)]
    pub force: bool,
}

/// For `client`.
#[derive(Debug, ClapArgs)]
pub struct ClientArgs {
    /// The client's name: servers write it to their audit logs
    pub name: Label,
    /// The validity period.
    #[command(flatten)]
    pub validity: ValidityArgs,
    /// Replace the existing key and certificate
    #[arg(long)]
    pub force: bool,
}

/// For `fleet`.
#[derive(Debug, ClapArgs)]
pub struct FleetArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// For `list`.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// For `show`.
#[derive(Debug, ClapArgs)]
pub struct ShowArgs {
    /// A server or client, or `ca`
    pub name: Label,
    /// Print JSON
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
    /// All certificates, except revoked ones
    #[arg(long)]
    pub all: bool,
    /// Only those that expire within so many days (30d), or that the former CA signed
    #[arg(long, value_name = "DAYS")]
    pub within: Option<Days>,
    /// The validity period.
    #[command(flatten)]
    pub validity: ValidityArgs,
}

/// For `revoke`.
#[derive(Debug, ClapArgs)]
pub struct RevokeArgs {
    /// A server or client
    #[arg(required_unless_present = "serial", conflicts_with = "serial")]
    pub name: Option<Label>,
    /// One certificate by its serial number, as `show` and the servers' logs print it
    #[arg(long, value_name = "HEX")]
    pub serial: Option<Serial>,
    /// The reason that the revocation list gives
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
    /// Stop trusting the former CA, and remove its key
    #[arg(long, conflicts_with_all = ["days", "not_before"])]
    pub finish: bool,
    /// Finish although certificates of the former CA are still in use
    #[arg(long, requires = "finish")]
    pub force: bool,
    /// The validity period.
    #[command(flatten)]
    pub validity: ValidityArgs,
}

/// For `bundle`.
#[derive(Debug, ClapArgs)]
pub struct BundleArgs {
    /// A host of fleet.toml
    pub host: Label,
    /// The folder to create [default: bundle-HOST]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// For `token`.
#[derive(Debug, ClapArgs)]
pub struct TokenArgs {
    /// The server's name, as in [servers.NAME]
    #[arg(default_value = "server")]
    pub name: Label,
    /// Replace the existing token: clients that use it are refused once the server has read the new one
    #[arg(long)]
    pub force: bool,
}

/// What to do with manifests.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Create the key pair: secrets/manifest.key signs, certs/manifest.pub verifies
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
    /// Sign a manifest: the signature is written to MANIFEST.sig
    Sign {
        /// The manifest
        manifest: PathBuf,
        /// The signing key [default: secrets/manifest.key in the home]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Verify a folder against its signed manifest
    Verify {
        /// The model's folder
        folder: PathBuf,
        /// The manifest [default: FOLDER.sha256]
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// A public key that may have signed it; may be repeated [default: certs/manifest.pub and manifest-old.pub]
        #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
        key: Vec<PathBuf>,
        /// Check the digests only, without a signature
        #[arg(long)]
        unsigned: bool,
    },
}
