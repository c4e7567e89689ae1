//! `fleet.toml` in types, the paths under the fleet's home, and the logging of every program.
//!
//! One file describes the whole fleet: hosts, servers, agents, watchdogs, alert channels. [`Fleet::read`] parses all of it in
//! every program, so that an error in one section is found by the first program that starts. The values of a [`Fleet`] are
//! checked: labels are labels, addresses are addresses, and every reference names a section. Unknown keys are errors: with
//! `mises` for `misses`, a watchdog would run with a default that the operator did not choose.
//!
//! ```
//! use std::path::Path;
//! use sanctum_config::Fleet;
//!
//! let text = r#"
//!     [hosts.mini]
//!     address = "192.0.2.25"
//!     agents = ["server", "guardian"]
//!     [servers.server]
//!     host = "mini"
//!     [watch.guardian]
//!     every = "1m"
//! "#;
//! let fleet = Fleet::parse(text, Path::new("fleet.toml"))?;
//! let guardian = &fleet.watch[&"guardian".parse()?];
//! assert_eq!(fleet.watched_server(guardian), Some(&"server".parse()?));
//!
//! let error = Fleet::parse("[watch.guardian]\nmises = 3\n", Path::new("fleet.toml")).unwrap_err();
//! assert!(error.to_string().starts_with("fleet.toml, line 2: unknown key `mises`; did you mean `misses`?"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Home`] has the paths of a host's files. Small JSON files are read and written as a [`record`], whole or not at all
//! ([`atomic`]), and [`files`] opens regular files only. Text from servers, logs and commands is an [`UntrustedText`] before
//! it is shown.

mod address;
pub mod atomic;
pub mod cache_dir;
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
mod origin;
mod programs;
pub mod record;
mod rotating_file;
mod shell;
mod tilde;
mod untrusted;

pub use address::{BadAddress, HostAddress, ListenAddress};
pub use digest::{BadDigest, Digest, DigestReader};
pub use duration::parse as parse_duration;
pub use error::FleetError;
pub use fleet::{Fleet, Role};
pub use home::{Home, HomeError};
pub use lock::FileLock;
pub use names::{BadName, Label, ModelAlias, ModelId};
pub use near::{did_you_mean, did_you_mean_or_names, nearest};
pub use origin::{BadOrigin, HostName, Origin};
pub use programs::system_program;
pub use record::RecordError;
pub use rotating_file::{RotatingFile, Rotation};
pub use shell::{quoted, quoted_file};
pub use tilde::{NoHome, TildePath};
pub use untrusted::{UntrustedText, escape_json, terminal_json};
