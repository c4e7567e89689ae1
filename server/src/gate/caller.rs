//! Who sent a request, as the gate found out, and how many of its requests are running.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use super::local::is_loopback;
use super::refusal::Refusal;

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

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// A certificate's common name, wherever it connects from.
    Named(String),
    /// All that comes from one address: those who share a token share their address too, or are told apart by it.
    Address(IpAddr),
}

/// The requests that run now, by client.
pub struct Crowd {
    limit: NonZeroUsize,
    running: Mutex<HashMap<Client, usize>>,
}

/// One request's place among those of its client, until it is dropped.
pub struct Permit {
    crowd: Arc<Crowd>,
    client: Client,
}

impl Client {
    /// Whom a request counts for. Nobody, where it came from this machine without having to say who it is: all local
    /// programs look the same, and one of them must not use up the places of the others. The engine's queue limits
    /// them.
    pub fn of(method: Method, name: Option<&str>, address: IpAddr) -> Option<Self> {
        match (method, name) {
            (Method::Mtls, Some(name)) => Some(Self::Named(name.to_owned())),
            (Method::Loopback, _) => None,
            (Method::Disabled, _) if is_loopback(address) => None,
            _ => Some(Self::Address(address.to_canonical())),
        }
    }
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
    pub fn enter(self: &Arc<Self>, client: Client) -> Result<Permit, Refusal> {
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

    #[test]
    fn each_client_has_its_own_places_and_gets_them_back() {
        let crowd = Crowd::new(NonZeroUsize::new(2).unwrap());
        let laptop = || Client::Named("laptop".into());
        let address = Client::Address([192, 0, 2, 2].into());
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
    fn a_name_counts_wherever_it_connects_from_and_local_programs_do_not_count() {
        let name = "laptop";
        let outside: IpAddr = [192, 0, 2, 2].into();
        let mapped: IpAddr = "::ffff:192.0.2.2".parse().unwrap();
        let local: IpAddr = [127, 0, 0, 1].into();
        let of = |method, address| Client::of(method, Some(name), address);
        assert_eq!(of(Method::Mtls, local), Some(Client::Named(name.into())));
        assert_eq!(of(Method::Bearer, outside), of(Method::Bearer, mapped));
        assert_eq!(of(Method::Bearer, local), Some(Client::Address(local)));
        assert_eq!(of(Method::Loopback, local), None);
        assert_eq!(of(Method::Disabled, local), None);
        assert_eq!(
            of(Method::Disabled, outside),
            Some(Client::Address(outside))
        );
    }
}
