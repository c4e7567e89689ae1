//! The watchdog loop: *schedule → check → count misses → alert → act → remember*.
//!
//! A watchdog is a [`Check`] and the policy of its section in `fleet.toml`. In each round the [`Watchdog`]
//!
//! 1. waits until its [`Schedule`] is due, and does nothing while a deployment holds the maintenance lease
//!    ([`sanctum_host::lease`]). In a [maintenance window](sanctum_host::MaintenanceWindow) it checks, and shows the verdict
//!    only;
//! 2. runs the check, within a time limit. The check changes nothing. It returns a [`CheckReport`]: a [`Verdict`], the
//!    conditions that open and close ([`Notice`]), the actions to execute, and what to remember;
//! 3. counts the verdict, and raises an [`alert`] when misses in a row reach the policy's limit, and another one when the
//!    condition is over;
//! 4. writes its [`WatchdogState`], so that a restart forgets nothing, and executes exactly the actions of the report.
//!
//! Checks ask servers through `sanctum-client` and launchd through [`sanctum_host::launchctl`]. What can block, such as a
//! file on a hung volume, runs as a [`BlockingTask`], so that neither the time limit nor SIGTERM waits for it.
//!
//! A binary is [`main`](fn@main) with its own check:
//!
//! ```no_run
//! use std::convert::Infallible;
//! use std::process::ExitCode;
//! use clap::Parser;
//! use sanctum_watch::{Args, Check, CheckReport, Notice, Round, Verdict, VerdictKind};
//!
//! /// Checks that a volume is mounted.
//! struct Mounted(&'static str);
//!
//! impl Check for Mounted {
//!     type Action = Infallible;
//!
//!     async fn check(&mut self, _round: &Round<'_>) -> CheckReport<Infallible> {
//!         match std::path::Path::new(self.0).exists() {
//!             true => Verdict::new(VerdictKind::Ok, format!("{} is mounted", self.0)).into(),
//!             false => Verdict::new(VerdictKind::Miss, format!("{} is not mounted", self.0)).next("mount").into(),
//!         }
//!     }
//!
//!     async fn execute(&mut self, action: Infallible) -> Vec<Notice> {
//!         match action {}
//!     }
//!
//!     fn subject(&self) -> String {
//!         self.0.to_owned()
//!     }
//! }
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     args: Args,
//! }
//!
//! fn main() -> ExitCode {
//!     sanctum_watch::main(&Cli::parse().args, "mounted", |_config| Ok(Mounted("/Volumes/models")))
//! }
//! ```

pub mod alert;
pub mod certificates;
pub mod memory;

mod age;
mod args;
mod blocking;
mod check;
mod condition_keys;
mod config;
mod error;
mod findings;
mod first_cause;
mod heartbeat_url;
mod policy;
mod run;
mod schedule;
mod section;
mod server_log;
mod state;
mod verdict;
mod watchdog;
mod watched;

pub use age::age;
pub use args::{Args, EXIT_CODES};
pub use blocking::{BlockingError, BlockingTask};
pub use check::{Check, CheckReport, Details, Notice, PlannedAction, Round};
pub use condition_keys::conditions;
pub use config::WatchdogConfig;
pub use error::WatchError;
pub use findings::{certificate_findings, verify_host};
pub use first_cause::{BLIND, BUDGET, FirstCause, OUTAGE};
pub use heartbeat_url::{HeartbeatStatus, HeartbeatUrl};
pub use policy::Policy;
pub use run::{main, run_once};
pub use schedule::{BadSchedule, Crontab, Schedule};
pub use section::check_section;
pub use server_log::ServerLog;
pub use state::{CoveredAlert, Hour, OpenCondition, Rates, WatchdogState};
pub use verdict::{MissCause, Verdict, VerdictKind};
pub use watchdog::Watchdog;
pub use watched::{ActiveClient, WatchedServer, offline};
