//! What every watchdog shares: *schedule → check → count misses → decide → act → remember*.
//!
//! A watchdog is a [`Check`] and a policy from `fleet.toml`. The check looks and returns a [`Verdict`]; the
//! [`Watchdog`] does the rest: it knows when ([`Schedule`]), counts misses in a row, tells a human through [`alert`]
//! channels once something is wrong and once when it is well again, and remembers all of it in a small file
//! ([`State`]) so that a restart forgets nothing. Install, upgrade and rollback hold a
//! [lease](sanctum_host::lease) meanwhile, under which no watchdog acts or reports. Checks ask servers through
//! `sanctum-client` and launchd through [`sanctum_host::launchctl`].
//!
//! A binary is [`main`](fn@main) with its own check.

pub mod alert;
pub mod certificates;
pub mod memory;

mod age;
mod args;
mod background;
mod findings;
mod first_cause;
mod policy;
mod run;
mod schedule;
mod state;
mod verdict;
mod watchdog;
mod watched;

pub use age::age;
pub use args::{Args, EXIT_CODES};
pub use background::{Background, aside};
pub use findings::{certificate_findings, verify_host};
pub use first_cause::{BLIND, BUDGET, FirstCause, OUTAGE};
pub use policy::Policy;
pub use run::{Setting, by_hand, main};
pub use schedule::{BadSchedule, Crontab, Schedule};
pub use state::{Hour, Open, Rates, State, StateError};
pub use verdict::{Check, Details, Kind, Miss, Note, Notice, Report, Round, Verdict};
pub use watchdog::{WatchError, Watchdog};
pub use watched::{Watched, offline};
