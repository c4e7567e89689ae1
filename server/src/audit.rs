//! The audit log: one line of JSON for each request to a model and for each request that was refused, with its client,
//! its cost and its end. It never contains a prompt, an answer or a token.
//!
//! The gate's [`RequestRecord`](crate::gate::RequestRecord) becomes a line when its request ends. Lines go through a
//! bounded channel to the one thread that writes. A disk that is full or slow stalls that thread, never a request: lines
//! that do not fit into the channel are counted and lost.

mod line;
mod writer;

pub(crate) use line::{AuditLine, RequestOutcome};
#[cfg(test)]
pub(crate) use writer::AuditWriter;
pub(crate) use writer::{AuditError, AuditFile, AuditLog};
