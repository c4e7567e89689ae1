//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use sanctum_config::Label;

use crate::preflight::Trial;
use crate::release::PathPart;

/// From fleet.toml to launchd, and back.
///
/// Every command can be interrupted: `verify` says that one was, and the next command finishes it or takes it back.
#[derive(Debug, Parser)]
#[command(
    name = "sanctum-launchd",
    version,
    after_help = "Exit codes:
  0  done; nothing to do; all is well
  1  not done: the message says why and what to mend. verify: something was found. status: something is not well
  2  the command line is wrong
  3  the new state did not do and was taken back: the message says why

Environment:
  SANCTUM_LAUNCHCTL         the program to use instead of launchctl
  SANCTUM_SOCKETFILTERFW    the program to use instead of Apple's socketfilterfw
  SANCTUM_SSH               the program to use instead of ssh
  SANCTUM_LSOF              the program to use instead of lsof
  SANCTUM_PS                the program to use instead of ps
  NO_COLOR                  no colours

On a new host:
  sanctum-launchd check --config fleet.toml
  sanctum-launchd install --config fleet.toml --host mini --release sanctum-0.2.0 --dry-run
  sanctum-launchd install --config fleet.toml --host mini --release sanctum-0.2.0
  sanctum-launchd status"
)]
pub struct Args {
    /// Where, and how.
    #[command(flatten)]
    pub site: SiteArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where a command works, and how it speaks.
#[derive(Debug, ClapArgs)]
pub struct SiteArgs {
    /// The fleet's file [default: fleet.toml in this folder, else the one deployed in ~/.sanctum]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The host, as in [hosts.NAME] [default: this one]
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<Label>,
    /// Say what would be done, and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Say it in JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check fleet.toml and show the fleet as a table
    Check,
    /// Print the property lists of a host's agents, or write them into a folder
    Render(RenderArgs),
    /// Describe a folder of programs as a release: write its release.json
    Pack(PackArgs),
    /// Sign and notarise a folder of programs on a Mac, before it is packed
    Sign(SignArgs),
    /// Make this host what fleet.toml says, with the release that is installed
    ///
    /// Writes only what differs and restarts only whom it concerns; a second time it does nothing and says so. The first
    /// time it needs --release.
    Install(InstallArgs),
    /// Change to another release; take it back if it does not do
    ///
    /// Before: the shadow is asked, the new program checks the models, and a second instance is tried where free memory
    /// admits it. After: the servers must become ready and answer correctly, or everything is put back as it was.
    Upgrade(UpgradeArgs),
    /// Go back to the release before, or hand a server's place to its standby agent and back
    Rollback(RollbackArgs),
    /// Compare this host with what was installed; every finding says what to do
    ///
    /// Another host (--host) is looked at over ssh: its files are hashed by its own system's tools and compared with this
    /// host's copy of its receipt (see `receipt`); then it is asked for its own word.
    Verify,
    /// Copy another host's receipt here, so that it can be compared with that host from outside
    ///
    /// What is copied is checked first: fleet.toml and all that follows from it is made here again, and with --release the
    /// programs are compared with that folder's. Type it after each install, upgrade and rollback there.
    Receipt(ReceiptArgs),
    /// Show all agents of all hosts on one screen
    Status(StatusArgs),
    /// Stop and remove all agents and programs; certificates, secrets, logs and state stay
    Uninstall,
}

/// For `render`.
#[derive(Debug, ClapArgs)]
pub struct RenderArgs {
    /// The folder to write them into [default: print them]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only this agent's
    #[arg(long, value_name = "NAME")]
    pub agent: Option<Label>,
}

/// For `pack`.
#[derive(Debug, ClapArgs)]
pub struct PackArgs {
    /// The folder: programs, and mlx.metallib if there is one
    pub folder: PathBuf,
    /// The version to give it
    #[arg(long, value_name = "VERSION")]
    pub release: PathPart,
}

/// For `sign`.
#[derive(Debug, ClapArgs)]
pub struct SignArgs {
    /// The folder of programs
    pub folder: PathBuf,
    /// The certificate's name in the keychain (security find-identity -v -p codesigning)
    #[arg(long, default_value = "Developer ID Application")]
    pub identity: String,
    /// The keychain profile of the notary's credentials (xcrun notarytool store-credentials)
    #[arg(long, default_value = "sanctum")]
    pub profile: String,
}

/// For `install`.
#[derive(Debug, ClapArgs)]
pub struct InstallArgs {
    /// The release's folder [default: the release that is installed]
    #[arg(long, value_name = "FOLDER")]
    pub release: Option<PathBuf>,
    /// How long to wait for a server when an interrupted upgrade is finished first, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = crate::flight::PATIENCE.as_secs())]
    pub patience: u64,
}

/// For `upgrade`.
#[derive(Debug, ClapArgs)]
pub struct UpgradeArgs {
    /// The new release's folder
    #[arg(long, value_name = "FOLDER")]
    pub release: PathBuf,
    /// Whether a second instance is started and asked before anything is stopped
    #[arg(long, value_enum, default_value_t)]
    pub trial: Trial,
    /// How long to wait for a server to be ready and to answer, in seconds; a trial and the check of the models too
    #[arg(long, value_name = "SECONDS", default_value_t = crate::flight::PATIENCE.as_secs())]
    pub patience: u64,
}

/// For `rollback`.
#[derive(Debug, ClapArgs)]
pub struct RollbackArgs {
    /// The agent that is to serve: a standby agent, or the server itself to flip back
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    pub agent: Option<Label>,
    /// The release to go back to [default: the one before]
    #[arg(long, value_name = "VERSION")]
    pub to: Option<PathPart>,
    /// Do not wait until the server is ready and asked
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for a server to be ready and to answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = crate::flight::PATIENCE.as_secs())]
    pub patience: u64,
}

/// For `receipt`.
#[derive(Debug, ClapArgs)]
pub struct ReceiptArgs {
    /// The folder of the release that is installed there [default: the other host's word is taken for its programs]
    #[arg(long, value_name = "FOLDER")]
    pub release: Option<PathBuf>,
    /// Replace an older copy without asking
    #[arg(long)]
    pub yes: bool,
}

/// For `status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// Only this host, without asking others
    #[arg(long)]
    pub local: bool,
}

impl UpgradeArgs {
    /// How long a server may take to be ready.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }
}

impl RollbackArgs {
    /// How long a server may take to be ready.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        let args =
            Args::try_parse_from(["sanctum-launchd", "install", "--dry-run", "--host", "mini"]);
        let args = args.unwrap();
        assert!(args.site.dry_run && args.site.host.is_some());
        for bad in [
            &["upgrade"][..],
            &["rollback", "--agent", "a", "--to", "1"],
            &["rollback", "--to", "../x"],
            &["install", "--host", "a b"],
        ] {
            let line = ["sanctum-launchd"].iter().chain(bad);
            assert!(Args::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
