//! `fleet.toml` in types, and the logging that every binary shares.
//!
//! One file describes the whole fleet: hosts, servers, agents, watchdogs, alert channels. [`Fleet::read`] parses all
//! of it, whoever asks, so that a mistake in one daemon's section is found by the first daemon that starts. What
//! stands in a [`Fleet`] is already checked: labels are labels, addresses are addresses, durations are durations, and
//! every name that refers to another section has been found there.
//!
//! Unknown keys are errors. A watchdog whose `misses` was written `mises` would run with a default that nobody chose.

mod duration;
mod error;
pub mod fleet;
pub mod logging;
mod names;
mod near;
mod tilde;

pub use error::FleetError;
pub use fleet::Fleet;
pub use names::{BadName, Label, ModelId};
pub use near::{did_you_mean, nearest};
pub use tilde::{NoHome, TildePath};
