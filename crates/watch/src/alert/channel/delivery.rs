//! What a delivery fails with, and how long it may take.

use std::time::Duration;

/// The time limit of one delivery by HTTP or to the screen.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// An alert that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct DeliveryError {
    /// What failed, and where.
    pub problem: String,
    /// What an operator can do about it.
    pub fix: String,
    /// Whether the receiver rejects this alert itself. Otherwise it is retried.
    pub is_permanent: bool,
    /// Whether some of the channel's recipients have received the alert all the same.
    pub is_partial: bool,
}

impl DeliveryError {
    /// It is retried later.
    pub(in crate::alert) fn later(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            fix: fix.into(),
            is_permanent: false,
            is_partial: false,
        }
    }

    /// The receiver rejects this alert permanently.
    pub(super) fn never(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            is_permanent: true,
            ..Self::later(problem, fix)
        }
    }

    /// Some recipients have received the alert; a retry would deliver it to them again.
    pub(super) fn partial(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            is_partial: true,
            ..Self::never(problem, fix)
        }
    }
}
