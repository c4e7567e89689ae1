//! The command line of `alert`.

use std::time::Duration;

use clap::{Args, Subcommand};
use sanctum_config::{Label, parse_duration};

/// A longer mute is forgotten before it ends.
const LONGEST_MUTE: Duration = Duration::from_secs(30 * 86_400);

/// The subcommand of `alert`.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// Send a test alert through every channel of this host's watchdogs, or through one
    ///
    /// Prints for each channel whether it was delivered, or the error and the fix. Exits with 1 if one was not delivered.
    Test(TestArgs),
    /// Show open and recent alerts: id, since when, what, and whether they were delivered. Changes nothing
    List(ListArgs),
    /// Mute a condition for a time: its alerts are logged and listed, and no channel receives them
    ///
    /// That includes alerts that wait for a channel which is down, and the end of the condition. A condition that is still
    /// open when the time has passed alerts again at its next cooldown.
    Mute(MuteArgs),
    /// End a mute before its time
    Unmute(AlertId),
    /// Close an open condition by hand; it alerts again if it recurs
    ///
    /// The watchdog closes it within seconds, logs who asked and why, and tells the channels. A condition that its next check
    /// finds again opens again: to silence that, use `alert mute`.
    Resolve(ResolveArgs),
}

/// Options of `alert test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Only this channel, as in [alerts.NAME]
    pub channel: Option<Label>,
}

/// Options of `alert list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How many past alerts to show
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub recent: usize,
}

/// An alert.
#[derive(Debug, Args)]
pub struct AlertId {
    /// The alert's id, as `alert list` shows it, or its condition, such as canary/misses
    pub id: String,
}

/// Options of `alert mute`.
#[derive(Debug, Args)]
pub struct MuteArgs {
    /// The alert.
    #[command(flatten)]
    pub alert: AlertId,
    /// For how long: 30m, 2h, 7d; 30 days at most
    #[arg(long = "for", value_name = "TIME", value_parser = mute_time)]
    pub duration: Duration,
    /// Why, for the log and for `alert list`
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
}

/// Options of `alert resolve`.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// The id of the open alert, as `alert list` shows it
    pub id: String,
    /// Why, for the log and for the channels
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
}

fn mute_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time > LONGEST_MUTE => Err("a mute has 30 days at most".to_owned()),
        time => Ok(time),
    }
}
