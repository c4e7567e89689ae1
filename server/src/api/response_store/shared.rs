//! The store of responses, shared by all requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Limits, Store};

/// Responses that can be continued. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct ResponseStore(Arc<Mutex<Store>>);

impl Default for ResponseStore {
    fn default() -> Self {
        let limits = Limits {
            entries: 1024,
            bytes: 64 << 20,
            time_to_live: Duration::from_secs(3600),
        };
        Self(Arc::new(Mutex::new(Store::new(limits))))
    }
}

impl ResponseStore {
    /// Acts on the store.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
