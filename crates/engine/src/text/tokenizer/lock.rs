//! A lock for which a thread can stop waiting.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a waiting thread asks whether it should continue.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// HeldMemory by one thread at a time. A waiting thread leaves as soon as its result is no longer wanted.
#[derive(Debug, Default)]
pub(super) struct CancellableLock {
    is_held: Mutex<bool>,
    released: Condvar,
}

/// Releases the lock when it is dropped.
pub(super) struct CancellableLockGuard<'a>(&'a CancellableLock);

impl CancellableLock {
    /// Waits for the lock while `should_continue` says so; it is asked once more with the lock held. None if it says no.
    pub(super) fn lock_while(
        &self,
        should_continue: &mut impl FnMut() -> bool,
    ) -> Option<CancellableLockGuard<'_>> {
        let mut is_held = self.is_held.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_held {
            if !should_continue() {
                return None;
            }
            let waited = self.released.wait_timeout(is_held, POLL_INTERVAL);
            is_held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *is_held = true;
        drop(is_held);
        let guard = CancellableLockGuard(self);
        should_continue().then_some(guard)
    }
}

impl Drop for CancellableLockGuard<'_> {
    fn drop(&mut self) {
        let is_held = &self.0.is_held;
        *is_held.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.released.notify_one();
    }
}
