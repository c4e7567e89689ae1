//! A host and what is deployed on it.
//!
//! [`Launchctl`] is launchd as its command shows it, and [`command`] runs every external program with a time limit. A
//! deployment leaves a [`Receipt`] of what was installed, [`Active`] says which agent serves for each server, and a
//! [`lease`] tells the watchdogs that a command is at work. All of them are small JSON files
//! ([`sanctum_config::record`]).

pub mod command;
pub mod launchctl;
pub mod lease;

mod active;
mod log_tail;
mod machine;
mod receipt;

pub use active::Active;
pub use launchctl::Launchctl;
pub use log_tail::{LogStart, last_error_line};
pub use machine::{machine_name, this_host};
pub use receipt::{Artefact, ArtefactKind, InstalledAgent, Receipt};
