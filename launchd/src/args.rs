//! The command line.

mod alert;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use sanctum_config::Label;
use sanctum_host::PathPart;

use crate::post_deploy_checks::PATIENCE;
pub use crate::preflight::TrialMode;
pub use alert::{AlertCommand, AlertId, ListArgs, MuteArgs, ResolveArgs, TestArgs};

/// Install a fleet's agents under launchd, upgrade them, roll them back and check them.
///
/// A command that changes a host can be interrupted anywhere: `verify` reports it, and the next command finishes it or rolls
/// it back.
#[derive(Debug, Parser)]
#[command(
    name = "sanctum-launchd",
    version,
    after_help = "Exit codes:
  0  success, or nothing to do
  1  failed: the message says why and how to fix it. verify: there are findings. status: there are problems
  2  the command line is wrong
  3  the change failed its checks and was rolled back: the message says why

Environment:
  SANCTUM_LAUNCHCTL         program to use instead of launchctl
  SANCTUM_SOCKETFILTERFW    program to use instead of Apple's socketfilterfw
  SANCTUM_SSH               program to use instead of ssh
  SANCTUM_LSOF              program to use instead of lsof
  SANCTUM_PS                program to use instead of ps
  NO_COLOR                  no colours

On a new host:
  sanctum-launchd check --config fleet.toml
  sanctum-launchd install --config fleet.toml --host mini --release sanctum-0.2.0 --dry-run
  sanctum-launchd install --config fleet.toml --host mini --release sanctum-0.2.0
  sanctum-launchd status"
)]
pub struct Args {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, ClapArgs)]
pub struct GlobalArgs {
    /// The fleet's file [default: fleet.toml in this folder, else the one deployed in ~/.sanctum]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The host, as in [hosts.NAME] [default: this machine's]
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<Label>,
    /// Print what would be changed, and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate fleet.toml and show the fleet as a table
    Check,
    /// Print the property lists of a host's agents, or write them into a folder
    Render(RenderArgs),
    /// Make a folder of programs a release: write its release.json
    Pack(PackArgs),
    /// Sign and notarise a folder of programs on a Mac, before it is packed
    Sign(SignArgs),
    /// Change this host to what fleet.toml describes, with the installed release
    ///
    /// Writes only files that differ and restarts only the agents that use them; run again, it changes nothing. The first
    /// installation needs --release.
    Install(InstallArgs),
    /// Change to another release, and roll back if it fails its checks
    ///
    /// Before: asks the shadow, checks the models with the new program, and starts a second instance if there is enough free
    /// memory. Then stops all agents that change, replaces their files and starts them. After: the servers must become ready
    /// and answer correctly, or everything is rolled back.
    Upgrade(UpgradeArgs),
    /// Return to the previous release, or switch a server to its standby agent and back
    ///
    /// Stops all agents that change, replaces their files with those of the release, fleet.toml included, and starts them.
    /// If a command was interrupted, rolls that back first; without --agent and --to, it does nothing else.
    Rollback(RollbackArgs),
    /// Compare this host with what was installed; each finding has its fix. Changes nothing
    ///
    /// For another host (--host): hashes its files over ssh with its own system's tools, compares them with this host's copy
    /// of its receipt (see `receipt`), and asks its sanctum-launchd to verify itself.
    Verify,
    /// Copy another host's receipt here, so that this host can verify that one from outside
    ///
    /// The copy is checked first: this host computes fleet.toml and all that follows from it, and with --release the digests
    /// of the programs. Run it after each install, upgrade and rollback there.
    Receipt(ReceiptArgs),
    /// Show all agents of all hosts on one screen. Changes nothing
    Status(StatusArgs),
    /// Test the alert channels; list, mute and close the alerts of this host's watchdogs
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Stop and remove all agents and their programs
    ///
    /// Removes the property lists, the programs, fleet.toml and the files beside it from the home. Keeps certificates,
    /// secrets, logs, state, stored releases, and the computed prefixes in a server's `cache_dir`, where conversations lie.
    Uninstall(UninstallArgs),
}

/// Options of `render`.
#[derive(Debug, ClapArgs)]
pub struct RenderArgs {
    /// The folder to write them into [default: print them]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only this agent's
    #[arg(long, value_name = "NAME")]
    pub agent: Option<Label>,
}

/// Options of `pack`.
#[derive(Debug, ClapArgs)]
pub struct PackArgs {
    /// The folder: programs, and mlx.metallib if there is one
    pub folder: PathBuf,
    /// The version of the release
    #[arg(long, value_name = "VERSION")]
    pub release: PathPart,
}

/// Options of `sign`.
#[derive(Debug, ClapArgs)]
pub struct SignArgs {
    /// The folder of programs
    pub folder: PathBuf,
    /// The certificate's name in the keychain (security find-identity -v -p codesigning)
    #[arg(long, default_value = "Developer ID Application")]
    pub identity: String,
    /// The keychain profile with the notary's credentials (xcrun notarytool store-credentials)
    #[arg(long, default_value = "sanctum")]
    pub profile: String,
}

/// Options of `install`.
#[derive(Debug, ClapArgs)]
pub struct InstallArgs {
    /// The release's folder [default: the installed release]
    #[arg(long, value_name = "FOLDER")]
    pub release: Option<PathBuf>,
    /// How long to wait for a server if an interrupted upgrade is finished first, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub patience: u64,
}

/// Options of `upgrade`.
#[derive(Debug, ClapArgs)]
pub struct UpgradeArgs {
    /// The new release's folder
    #[arg(long, value_name = "FOLDER")]
    pub release: PathBuf,
    /// Whether to start and ask a second instance before anything is stopped
    #[arg(long, value_enum, default_value_t)]
    pub trial: TrialMode,
    /// How long to wait for a server to become ready and answer, in seconds; also for a trial and the check of the models
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub patience: u64,
}

/// Options of `rollback`.
#[derive(Debug, ClapArgs)]
pub struct RollbackArgs {
    /// The agent that is to serve: a standby agent, or the server itself to switch back
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    pub agent: Option<Label>,
    /// The release to return to [default: the previous one]
    #[arg(long, value_name = "VERSION")]
    pub to: Option<PathPart>,
    /// Do not wait until the server is ready and has answered
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for a server to become ready and answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub patience: u64,
}

/// Options of `receipt`.
#[derive(Debug, ClapArgs)]
pub struct ReceiptArgs {
    /// The folder of the release that is installed there [default: trust the other host's digests of its programs]
    #[arg(long, value_name = "FOLDER")]
    pub release: Option<PathBuf>,
    /// Replace an older copy without confirmation
    #[arg(long)]
    pub yes: bool,
}

/// Options of `status`.
#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// Only this host, without asking others
    #[arg(long)]
    pub local: bool,
}

/// Options of `uninstall`.
#[derive(Debug, ClapArgs)]
pub struct UninstallArgs {
    /// Remove the computed prefixes in the `cache_dir` of this host's servers too; also if nothing else is installed
    #[arg(long)]
    pub remove_prefix_cache: bool,
    /// How long to wait for a server if an interrupted upgrade is finished first, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub patience: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent_and_wrong_ones_are_refused() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        let args =
            Args::try_parse_from(["sanctum-launchd", "install", "--dry-run", "--host", "mini"]);
        let args = args.unwrap();
        assert!(args.global.dry_run && args.global.host.is_some());
        for bad in [
            &["upgrade"][..],
            &["rollback", "--agent", "a", "--to", "1"],
            &["rollback", "--to", "../x"],
            &["install", "--host", "a b"],
            &["alert", "mute", "canary-misses-1"],
            &["alert", "mute", "canary-misses-1", "--for", "2"],
            &["alert", "mute", "canary-misses-1", "--for", "60d"],
            &["alert", "resolve"],
        ] {
            let line = ["sanctum-launchd"].iter().chain(bad);
            assert!(Args::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
