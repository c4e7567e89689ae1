//! `fleet.toml` in types, and the logging that every binary shares.
//!
//! One file describes the whole fleet: hosts, servers, agents, watchdogs, alert channels. [`Fleet::read`] parses all
//! of it in every program, so that a mistake in one daemon's section is found by the first daemon that starts. A
//! [`Fleet`] is already checked: labels, addresses and durations are valid, and every name that refers to another
//! section exists.
//!
//! The crate also has the paths on a host ([`Home`]), and reads and writes small JSON files ([`record`]), which are
//! replaced as a whole ([`atomic`]).
//!
//! Unknown keys are errors. A watchdog whose `misses` was written `mises` would run with an unintended default.

mod address;
pub mod atomic;
mod digest;
mod duration;
mod error;
pub mod files;
pub mod fleet;
mod home;
mod lock;
pub mod logging;
mod names;
mod near;
mod programs;
pub mod record;
mod rotating_file;
mod tilde;
mod untrusted;

pub use address::{BadAddress, HostAddress, ListenAddress};
pub use digest::{BadDigest, Digest, DigestReader};
pub use error::FleetError;
pub use fleet::{Fleet, Role};
pub use home::{Home, HomeError};
pub use lock::FileLock;
pub use names::{BadName, Label, ModelId};
pub use near::{did_you_mean, nearest};
pub use programs::system_program;
pub use record::RecordError;
pub use rotating_file::{RotatingFile, Rotation};
pub use tilde::{NoHome, TildePath};
pub use untrusted::{UntrustedText, escape_json, terminal_json};
