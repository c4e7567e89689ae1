//! How many requests of one client may run or wait at once.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use super::refusal::Refusal;
use crate::client_key::ClientKey;

/// The requests that run or wait now, by client.
pub(crate) struct RequestLimit {
    limit: NonZeroUsize,
    running: Mutex<HashMap<ClientKey, usize>>,
}

/// One request that counts for its client until this is dropped.
pub(crate) struct RequestPermit {
    limit: Arc<RequestLimit>,
    client: ClientKey,
}

impl RequestLimit {
    /// At most `limit` requests of each client.
    pub(crate) fn new(limit: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            running: Mutex::default(),
        })
    }

    /// A permit for one more request.
    ///
    /// # Errors
    /// If the client has as many as it may have.
    pub(crate) fn acquire(self: &Arc<Self>, client: ClientKey) -> Result<RequestPermit, Refusal> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(client.clone()).or_default();
        if *count >= self.limit.get() {
            return Err(Refusal::TooMany {
                limit: self.limit.get(),
            });
        }
        *count += 1;
        Ok(RequestPermit {
            limit: self.clone(),
            client,
        })
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let running = &self.limit.running;
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_permits_of_their_own_and_release_them() {
        let limit = RequestLimit::new(NonZeroUsize::new(2).unwrap());
        let laptop = || ClientKey::Certificate("laptop".into());
        let address = ClientKey::of_address(([192, 0, 2, 2], 9).into());
        let first = limit.acquire(laptop()).unwrap();
        let _second = limit.acquire(laptop()).unwrap();
        let other = limit.acquire(address).unwrap();
        assert_eq!(
            limit.acquire(laptop()).err(),
            Some(Refusal::TooMany { limit: 2 })
        );
        drop(first);
        let _third = limit.acquire(laptop()).unwrap();
        assert!(limit.acquire(laptop()).is_err());
        drop(other);
        assert_eq!(limit.running.lock().unwrap().len(), 1);
    }
}
