//! A host and what is deployed on it.
//!
//! [`Launchctl`] is launchd as its command shows it, and [`command`] runs every external program with a time limit. A
//! deployment leaves a [`Receipt`] of what was installed, [`Active`] says which agent serves for each server, and a
//! [`lease`] pauses the watchdogs while a command is running. [`StoppedAgents`] and [`MaintenanceWindow`] are the operator's
//! decisions about this host. All of them are small JSON files
//! ([`sanctum_config::record`]).

pub mod code_signature;
pub mod command;
pub mod firewall;
pub mod journal;
pub mod launchctl;
pub mod lease;
pub mod other_fleet;
pub mod permissions;
pub mod prefix_folder;
pub mod remote_files;
pub mod ssh;

mod active;
mod command_line;
mod error;
mod finding;
mod installation;
mod log_tail;
mod machine;
mod maintenance_window;
mod offbox;
mod period;
mod process;
mod process_usage;
mod property_list;
mod receipt;
mod release;
mod running_program;
mod stopped;
mod trial_record;
mod verify;

pub use active::Active;
pub use command_line::CommandLine;
pub use error::Error;
pub use finding::{Finding, FindingKind, INSTALL_RELEASE};
pub use installation::{
    Installation, MAX_FLEET_BYTES, TypedCommands, read_fleet, require_this_host,
};
pub use journal::Journal;
pub use launchctl::Launchctl;
pub use log_tail::{LogStart, last_error_line, last_line};
pub use machine::this_host;
pub use maintenance_window::MaintenanceWindow;
pub use offbox::{OffboxError, offbox};
pub use period::is_in_period;
pub use process::ProcessIdentity;
pub use process_usage::{ProcessUsage, process_usage};
pub use property_list::PropertyList;
pub use receipt::{Artefact, ArtefactKind, InstalledAgent, Receipt};
pub use release::{DESCRIPTION, PathPart, Release, ReleaseFile};
pub use stopped::{StoppedAgent, StoppedAgents, StoppedError};
pub use trial_record::TrialRecord;
pub use verify::{verify, warnings};
