//! The store of responses, shared by all requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{PendingTurn, Store, StoreLimits};
use crate::client_key::ClientKey;

/// How often what has expired is removed.
const UPKEEP: Duration = Duration::from_secs(60);

/// Responses that can be continued. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct ResponseStore(Arc<Mutex<Store>>);

/// A turn that is kept once its answer is complete.
pub(crate) struct PendingAnswer {
    store: ResponseStore,
    owner: String,
    turn: PendingTurn,
}

impl Default for ResponseStore {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Store::new(StoreLimits::default()))))
    }
}

impl ResponseStore {
    /// Acts on the store.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A client, as the store names it.
    pub(crate) fn owner(client: &ClientKey) -> String {
        format!("{client:?}")
    }

    /// Removes what has expired, for ever: an idle server keeps no conversation beyond its time.
    pub(crate) async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.with(|store| store.expire(Instant::now()));
        }
    }

    /// A turn of `owner` that waits for its answer.
    pub(crate) fn pending(&self, owner: String, turn: PendingTurn) -> PendingAnswer {
        PendingAnswer {
            store: self.clone(),
            owner,
            turn,
        }
    }
}

impl PendingAnswer {
    /// Keeps the turn with its answer, an object with `id` and `output`.
    pub(crate) fn keep(self, answer: Value) {
        let now = Instant::now();
        self.store
            .with(|store| store.insert(&self.owner, self.turn, answer, now));
    }
}
