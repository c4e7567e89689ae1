//! Prefix reuse: what is kept of prompts and answers, so that a request which begins with the same tokens does not compute them
//! again.
//!
//! A **snapshot** ([`Backend::Snapshot`](crate::backend::Backend::Snapshot)) is all that a sequence's slot holds at a length: its
//! pages of keys and values, shared by reference, and copies of its recurrent states. A recurrent state cannot be cut back to an
//! earlier token, so a prefix can be reused at snapshots only.

pub(crate) mod cache;
pub mod cold;
pub(crate) mod cold_tier;
pub(crate) mod damage;
pub(crate) mod options;
pub(crate) mod oracle;
mod page_counts;
pub(crate) mod points;
pub(crate) mod scope;
pub(crate) mod status;
pub(crate) mod tree;
mod worth;

pub use options::{ColdOptions, PrefixOptions};
pub use scope::{Reuse, Scope};
pub use status::{PrefixDisk, PrefixState};
