//! Who sent a request, as the gate found out, and how many of its requests are running.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use super::refusal::Refusal;
use crate::client_key::ClientKey;
use crate::peer::Peer;

/// How a request was let in, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A client certificate.
    Mtls,
    /// The bearer token.
    Bearer,
    /// It came from this machine.
    Loopback,
    /// Nobody is asked.
    Disabled,
    /// It brought nothing.
    None,
}

impl Method {
    /// Every one of them.
    pub const ALL: [Self; 5] = [
        Self::Mtls,
        Self::Bearer,
        Self::Loopback,
        Self::Disabled,
        Self::None,
    ];

    /// As metrics and the audit log call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Bearer => "bearer",
            Self::Loopback => "loopback",
            Self::Disabled => "disabled",
            Self::None => "none",
        }
    }
}

/// The requests that run now, by client.
pub struct Crowd {
    limit: NonZeroUsize,
    running: Mutex<HashMap<ClientKey, usize>>,
}

/// One request's place among those of its client, until it is dropped.
pub struct Permit {
    crowd: Arc<Crowd>,
    client: ClientKey,
}

/// The client that a request counts for. None if it came from this machine without having to say who it is: all local
/// programs look the same, and one of them must not use up the places of the others. The engine's queue limits them.
pub fn counted_client(method: Method, peer: &Peer) -> Option<ClientKey> {
    let client = ClientKey::of_peer(peer);
    let is_local = matches!(method, Method::Loopback | Method::Disabled) && client.is_loopback();
    (!is_local).then_some(client)
}

impl Crowd {
    /// Nobody yet; each client may have `limit` requests running at once.
    pub fn new(limit: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            running: Mutex::default(),
        })
    }

    /// Takes a place.
    pub fn enter(self: &Arc<Self>, client: ClientKey) -> Result<Permit, Refusal> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(client.clone()).or_default();
        if *count >= self.limit.get() {
            return Err(Refusal::TooMany {
                limit: self.limit.get(),
            });
        }
        *count += 1;
        Ok(Permit {
            crowd: self.clone(),
            client,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let running = &self.crowd.running;
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
    use crate::peer::Identity;

    #[test]
    fn each_client_has_its_own_places_and_gets_them_back() {
        let crowd = Crowd::new(NonZeroUsize::new(2).unwrap());
        let laptop = || ClientKey::Certificate("laptop".into());
        let address = ClientKey::of_address(([192, 0, 2, 2], 9).into());
        let first = crowd.enter(laptop()).unwrap();
        let _second = crowd.enter(laptop()).unwrap();
        let other = crowd.enter(address).unwrap();
        assert_eq!(
            crowd.enter(laptop()).err(),
            Some(Refusal::TooMany { limit: 2 })
        );
        drop(first);
        let _third = crowd.enter(laptop()).unwrap();
        assert!(crowd.enter(laptop()).is_err());
        drop(other);
        assert_eq!(crowd.running.lock().unwrap().len(), 1);
    }

    #[test]
    fn local_programs_count_only_with_credentials() {
        let peer = |address: &str, name: Option<&str>| Peer {
            address: address.parse().unwrap(),
            identity: name.map(|name| Identity::new(name, || true)),
        };
        let (local, outside) = (peer("127.0.0.1:9", None), peer("192.0.2.2:9", None));
        let named = peer("127.0.0.1:9", Some("laptop"));
        let certificate = Some(ClientKey::Certificate("laptop".into()));
        assert_eq!(counted_client(Method::Mtls, &named), certificate);
        assert_eq!(
            counted_client(Method::Bearer, &local),
            Some(ClientKey::Loopback)
        );
        assert_eq!(counted_client(Method::Loopback, &local), None);
        assert_eq!(counted_client(Method::Disabled, &local), None);
        let address = Some(ClientKey::of_address(([192, 0, 2, 2], 9).into()));
        assert_eq!(counted_client(Method::Disabled, &outside), address);
    }
}
