//! The command line that all watchdogs share.

use std::path::PathBuf;

use clap::ValueEnum;
use sanctum_config::Label;
use sanctum_config::logging::LineFormat;

/// The arguments of a watchdog.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The fleet's file
    #[arg(long, value_name = "FILE", default_value = "fleet.toml")]
    pub config: PathBuf,
    /// Which [watch.NAME] of the file this is [default: the check's own name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Label>,
    /// Run one check, print its result, and exit: nothing is changed, alerted about or remembered
    #[arg(long)]
    pub once: bool,
    /// Print the result of --once as JSON
    #[arg(long, requires = "once")]
    pub json: bool,
    /// Which events to log: a level, or a list such as info,sanctum_watch=debug [default: $RUST_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// The format of log lines [default: text on a terminal, json otherwise]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Write log lines to this file, rotated as section logs of fleet.toml configures [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line
    Json,
    /// Text for a terminal
    Text,
}

/// The exit codes, for each binary's `--help`.
pub const EXIT_CODES: &str = "Exit codes:
  0    stopped by SIGTERM or SIGINT; with --once: ok, busy or offline
  1    with --once: a miss
  2    an error in the command line or in fleet.toml, another process runs this watchdog, or --once was run on another host
       than the watchdog's: the message says what to do
  3    cannot continue: the message says why";

impl From<LogFormat> for LineFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Text => Self::Text,
        }
    }
}
