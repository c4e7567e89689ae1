//! Whether prefixes are being reused, as the engine's handles see it.

use std::sync::{Mutex, PoisonError};

/// Whether prefixes are being reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PrefixState {
    /// They are.
    On,
    /// They are not: it is turned off, or the backend cannot.
    #[default]
    Off,
    /// They are no longer, until the engine is started again: a reused prefix was not equal to the computed one.
    DisabledByCheck {
        /// What was not equal: positions, and the scope.
        reason: String,
    },
}

/// The state that the engine's thread sets and its handles read.
#[derive(Debug, Default)]
pub(crate) struct PrefixStatus(Mutex<PrefixState>);

impl PrefixStatus {
    pub(crate) fn get(&self) -> PrefixState {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, state: PrefixState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
