//! Ending a computation from another thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llguidance::CancellationHandle;

/// Ends what [`crate::Constraint::allowed`] and [`crate::Constraint::accept`] compute, from another thread and for good.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<Mutex<CancellationState>>);

#[derive(Debug, Default)]
struct CancellationState {
    is_cancelled: bool,
    /// That of the matcher in use.
    matcher: Option<CancellationHandle>,
}

impl Cancellation {
    /// Ends the computation. The constraint cannot be used after it.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        if let Some(matcher) = &state.matcher {
            matcher.cancel();
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state().is_cancelled
    }

    /// Another matcher is in use.
    pub(crate) fn watch(&self, matcher: Option<CancellationHandle>) {
        let mut state = self.state();
        if let (true, Some(matcher)) = (state.is_cancelled, &matcher) {
            matcher.cancel();
        }
        state.matcher = matcher;
    }

    fn state(&self) -> MutexGuard<'_, CancellationState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
