//! Who asked what, when, and how it ended: one line of JSON for each request to a model, and for each that was
//! refused anywhere. Never the prompt, never the answer, never a token.
//!
//! The gate makes an [`Entry`] of every request; whoever works on it writes into its [`Account`]; when the last byte
//! of the answer is sent, or the client has gone, the entry becomes a line and goes through a bounded channel to the
//! one thread that writes. A disk that is full or slow stalls that thread, never a request: what does not fit into the
//! channel is counted and lost.

mod account;
mod entry;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

use sanctum_config::Rotation;

pub use account::Account;
pub use entry::{Caller, Entry};
#[cfg(test)]
use writer::Writer;
pub use writer::{Audit, AuditError};

/// Where lines go.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditFile {
    /// The file that is written to.
    pub path: PathBuf,
    /// When it is rotated.
    pub rotation: Rotation,
}
