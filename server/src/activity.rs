//! What operators see of the present: which clients have requests, and what was refused last.
//!
//! Both are bounded, kept in memory only, and forgotten with the process. The audit log is the lasting record.

mod clients;
mod refusals;

pub(crate) use clients::{ClientStatus, ClientVisit, HasBegun, RecentClients};
pub(crate) use refusals::{RecentRefusals, RefusalStatus, RefusedRequest};
