//! The command line.

mod alert;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use sanctum_config::fleet::FleetPage;
use sanctum_config::{Label, ListenAddress, parse_duration};
use sanctum_host::{MaintenanceWindow, PathPart};

use crate::new_fleet::{NewHost, StandbyProgram, printable};
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
  1  failed: the message says why and how to fix it. verify: there are findings. status: there are problems.
     logs: the agent has logged nothing, or a log cannot be read.
  2  the command line is wrong
  3  the change failed its checks and was rolled back: the message says why
With --host NAME, the code of the command on that host; 1 if ssh fails or that host has no sanctum-launchd.

Environment:
  SANCTUM_LAUNCHCTL         program to use instead of launchctl
  SANCTUM_SOCKETFILTERFW    program to use instead of Apple's socketfilterfw
  SANCTUM_SSH               program to use instead of ssh
  SANCTUM_LSOF              program to use instead of lsof
  SANCTUM_PS                program to use instead of ps
  NO_COLOR                  no colours

On a new host:
  sanctum-launchd init
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
    /// The fleet's file [default: fleet.toml in this folder, else the one deployed with this program, else in ~/.sanctum]
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
    /// Write a fleet.toml: asks five questions on a terminal, or takes the answers as flags
    ///
    /// It is written to the file that --config names, else to fleet.toml in this folder, and never over an existing one.
    Init(InitArgs),
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
    /// Show all agents of all hosts on one screen, or with --serve in a browser. Changes nothing
    Status(StatusArgs),
    /// Test the alert channels; list, mute and close the alerts of this host's watchdogs
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Print the last lines of an agent's log, and follow it with -f
    ///
    /// Lines of the agent's own log and of what launchd has saved of its output, rotated files included. Control characters
    /// are escaped. With --host the log is read over ssh.
    Logs(LogsArgs),
    /// Stop an agent until `start`
    ///
    /// It is recorded as stopped on purpose: the watchdogs of this host neither alert about it nor restart it, it does not
    /// start at login, and install, upgrade and rollback leave it stopped.
    Stop(StopArgs),
    /// Start an agent, and wait until it is healthy
    Start(StartArgs),
    /// Restart an agent with `launchctl kickstart -k`, and wait until it is healthy
    Restart(StartArgs),
    /// Open a maintenance window: the watchdogs check, and neither alert nor act until it ends
    ///
    /// On all hosts that can be reached from here, or with --host on one. It ends by itself.
    Pause(PauseArgs),
    /// End the maintenance window before its time
    Resume(ResumeArgs),
    /// Check what no installation can see: ports, firewall, clocks, certificates, models, sleep, login. Changes nothing
    ///
    /// Each line has passed, has failed with its fix, or cannot be checked here, with the reason. This host is checked from
    /// inside and by the hosts that watch it; with --host, another host is checked from here and from inside.
    Doctor(DoctorArgs),
    /// Copy programs, fleet.toml and certificates to another host, over ssh
    ///
    /// Only files that differ are sent. They are compared by SHA-256 on both hosts before they are renamed into place, so that
    /// no file is ever half there. Nothing is installed: the command for that is printed.
    Push(PushArgs),
    /// Stop and remove all agents and their programs
    ///
    /// Removes the property lists, the programs, fleet.toml and the files beside it from the home. Keeps certificates,
    /// secrets, logs, state, stored releases, and the computed prefixes in a server's `cache_dir`, where conversations lie.
    Uninstall(UninstallArgs),
}

/// Options of `init`.
#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// The host that serves, and its address as other hosts reach it
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub(crate) serve: Option<NewHost>,
    /// The host that watches it from outside [default: none]
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub(crate) watch: Option<NewHost>,
    /// The model's folder [default: the built-in model]
    #[arg(long, value_name = "FOLDER", value_parser = printable)]
    pub(crate) model: Option<String>,
    /// A program, with its arguments, that can serve in the server's place [default: none]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) standby: Option<StandbyProgram>,
    /// How alerts are delivered: desktop, log, or the URL of a receiver [default: desktop]
    ///
    /// An address that is a secret, such as Slack's, is written into a file of mode 600 that fleet.toml names. The shell's history
    /// and the list of processes have what you write here: leave this out, and answer the question instead.
    // Parsed later: clap's error would repeat a secret.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) alert: Option<String>,
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
    /// Serve it as a page for a browser on this machine until Ctrl-C [default address: 127.0.0.1:1340]
    ///
    /// The page is refreshed, and has the history of 24 hours and 7 days, and the alerts; GET /status.json is the same for
    /// programs. It is read-only and has no authentication, so it listens on loopback only.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, value_parser = loopback)]
    pub serve: Option<Option<SocketAddr>>,
    /// Options of `--serve`.
    #[command(flatten)]
    pub page_options: PageOptions,
}

/// Options of `status --serve`.
#[derive(Debug, ClapArgs)]
pub struct PageOptions {
    /// With --serve: refresh after this time [default: 30s]
    #[arg(long, value_name = "TIME", requires = "serve", value_parser = interval)]
    pub every: Option<Duration>,
    /// With --serve: take address and interval from this section, [pages.NAME]
    #[arg(
        long,
        value_name = "NAME",
        requires = "serve",
        conflicts_with = "every"
    )]
    pub page: Option<Label>,
    /// With --serve: write log lines to this file, rotated as section logs of fleet.toml configures [default: standard error]
    #[arg(long, value_name = "FILE", requires = "serve")]
    pub log_file: Option<PathBuf>,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: ListenAddress = text
        .parse()
        .map_err(|error: sanctum_config::BadAddress| error.to_string())?;
    FleetPage::loopback(&address)
}

fn interval(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(FleetPage::interval)
}

/// Options of `logs`.
#[derive(Debug, ClapArgs)]
pub struct LogsArgs {
    /// The agent
    pub agent: Label,
    /// Continue with new lines until Ctrl-C; a rotation is followed
    #[arg(short, long)]
    pub follow: bool,
    /// The number of lines of each log
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub lines: u32,
}

/// Options of `stop`.
#[derive(Debug, ClapArgs)]
pub struct StopArgs {
    /// The agent
    pub agent: Label,
    /// Why; `status` shows it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The host from which the command was given over ssh, whose watchdogs then know of it
    #[arg(long, value_name = "NAME", hide = true)]
    pub from: Option<Label>,
}

/// Options of `start` and `restart`.
#[derive(Debug, ClapArgs)]
pub struct StartArgs {
    /// The agent
    pub agent: Label,
    /// How long to wait until it is healthy, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub patience: u64,
}

/// Options of `pause`.
#[derive(Debug, ClapArgs)]
pub struct PauseArgs {
    /// How long, such as 30m or 2h; 24h at most
    #[arg(long = "for", value_name = "DURATION", value_parser = window)]
    pub duration: Duration,
    /// Why; `status` shows it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only this host
    #[arg(long)]
    pub local: bool,
}

/// Options of `resume`.
#[derive(Debug, ClapArgs)]
pub struct ResumeArgs {
    /// Only this host
    #[arg(long)]
    pub local: bool,
}

fn window(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        duration if duration > MaintenanceWindow::LONGEST => Err(
            "a maintenance window lasts 24h at most; stop the agents instead: sanctum-launchd stop AGENT"
                .to_owned(),
        ),
        duration => Ok(duration),
    }
}

/// Options of `doctor`.
#[derive(Debug, ClapArgs)]
pub struct DoctorArgs {
    /// Only this host, from inside
    #[arg(long, conflicts_with = "outside")]
    pub local: bool,
    /// With --host: only what this host finds from outside
    #[arg(long, requires = "host")]
    pub outside: bool,
    /// How long the check of one server's models may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE)]
    pub patience: u64,
}

/// Options of `push`.
#[derive(Debug, ClapArgs)]
pub struct PushArgs {
    /// The host that receives the files, as in [hosts.NAME]
    pub to: Label,
    /// The folder of a release [default: no programs]
    #[arg(long, value_name = "FOLDER")]
    pub release: Option<PathBuf>,
    /// The folder that `sanctum-pki bundle` has made for that host [default: bundle-HOST, if it exists]
    #[arg(long, value_name = "FOLDER")]
    pub bundle: Option<PathBuf>,
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
            &["logs"],
            &["pause"],
            &["pause", "--for", "30"],
            &["pause", "--for", "25h"],
            &["status", "--serve", "0.0.0.0:1340"],
            &["status", "--serve", "localhost:1340"],
            &["status", "--page", "fleet-page"],
            &["status", "--serve", "--every", "10m"],
            &["status", "--serve", "--every", "5s", "--page", "fleet-page"],
        ] {
            let line = ["sanctum-launchd"].iter().chain(bad);
            assert!(Args::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
