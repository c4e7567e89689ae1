//! The cold tier: snapshots in files, so that prefixes survive a restart.
//!
//! Pure input and output of bytes: nothing here knows models or schedulers. One file holds one snapshot, named by the hash of
//! fingerprint, scope and tokens ([`ColdKey`]). A file has only what lies behind its parent, so the files of a conversation are
//! a chain. A process that is killed at any moment leaves whole files and, beside them, at most one that was being written,
//! which the next process removes. A file that is damaged or of another format is removed and logged: it is a miss. One that the
//! system does not read is a miss too, and stays: only what was read can be damaged.

mod error;
mod file;
mod folder;
mod found;
mod index;
mod key;
mod listing;
mod status;
mod store;
#[cfg(test)]
mod tests;

pub use error::ColdError;
#[cfg(test)]
use key::ScopeBytes;
pub(crate) use key::{ColdKey, KeyHasher, PromptKeys};
pub use listing::{ColdListing, ListedPrefix, clear, list};
pub(crate) use status::ColdStatus;
pub(crate) use store::{ColdLink, ColdStore, NewPrefix};
