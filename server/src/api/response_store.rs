//! Responses that clients can continue: kept in memory, for a limited time, within limits of entries and bytes.

mod continued;
mod shared;
mod store;

pub(crate) use shared::{PendingAnswer, ResponseStore};
pub(crate) use store::{ConversationHistory, PendingTurn, Store, StoreLimits};
