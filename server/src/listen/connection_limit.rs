//! How many connections may be open, and which one is closed when there are too many.
//!
//! Of `max_connections`
//!
//! - an eighth is kept for loopback, so that the watchdogs and the operator can always connect;
//! - one other client, by its address ([`ClientKey`]), has a quarter at most.
//!
//! Where a new connection meets a limit, one that counts for the same limit is evicted: first the oldest that is still
//! in its TLS handshake or its head, then the one that has been idle longest, then the oldest whose body arrives
//! ([`ConnectionPhase::eviction_rank`](super::phase::ConnectionPhase::eviction_rank)). A thousand clients that send one
//! byte a second therefore evict each other, and do not keep a client waiting that sends its request at once. The new
//! connection is refused only where all others wait for a response.
//!
//! A semaphore would refuse the new connection instead, which is what such clients want.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::phase::ConnectionState;
use crate::client_key::ClientKey;
use crate::metrics::Metrics;

/// The open connections of a server, on all of its listeners together.
pub(crate) struct ConnectionLimit {
    limits: ConnectionLimits,
    open: Mutex<Vec<Arc<Connection>>>,
    metrics: Arc<Metrics>,
}

/// How many connections may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ConnectionLimits {
    all: usize,
    /// Of those from other machines.
    outside: usize,
    /// Of those from one other client.
    client: usize,
}

/// A connection that may be open until this is dropped.
pub(crate) struct ConnectionPermit {
    connection: Arc<Connection>,
    limit: Arc<ConnectionLimit>,
}

struct Connection {
    client: ClientKey,
    state: Arc<ConnectionState>,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitReached {
    /// All connections wait for a response.
    Server,
    /// All connections of this client do.
    Client,
}

impl LimitReached {
    /// The label in `/metrics`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Server => "full",
            Self::Client => "full_for_peer",
        }
    }
}

impl ConnectionLimits {
    fn of(all: usize) -> Self {
        Self {
            all,
            outside: (all - all / 8).max(1),
            client: (all / 4).max(1),
        }
    }
}

impl ConnectionLimit {
    /// At most `all` connections; at least one.
    pub(crate) fn new(all: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            limits: ConnectionLimits::of(all.max(1)),
            open: Mutex::default(),
            metrics,
        })
    }

    /// A permit for a connection from `address`, for which another connection is evicted if need be.
    ///
    /// # Errors
    /// If a limit is reached and no connection can be evicted.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        address: SocketAddr,
        secure: bool,
    ) -> Result<ConnectionPermit, LimitReached> {
        let client = ClientKey::of_address(address);
        // To search a thousand entries takes microseconds; an index would save nothing.
        let mut open = self.open();
        if !client.is_loopback() {
            let same = |other: &Connection| other.client == client;
            make_room(&mut open, self.limits.client, same).map_err(|()| LimitReached::Client)?;
            let outside = |other: &Connection| !other.client.is_loopback();
            make_room(&mut open, self.limits.outside, outside)
                .map_err(|()| LimitReached::Server)?;
        }
        make_room(&mut open, self.limits.all, |_| true).map_err(|()| LimitReached::Server)?;
        let connection = Arc::new(Connection {
            client,
            state: Arc::new(ConnectionState::new(secure)),
        });
        open.push(connection.clone());
        drop(open);
        self.metrics.connections(1);
        Ok(ConnectionPermit {
            connection,
            limit: self.clone(),
        })
    }

    /// Evicts one connection, where the system has no room for more.
    pub(crate) fn evict_one(&self) {
        evict(&mut self.open(), |_| true);
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ensures that fewer than `limit` of the connections that `counts` selects are open.
fn make_room(
    open: &mut Vec<Arc<Connection>>,
    limit: usize,
    counts: impl Fn(&Connection) -> bool,
) -> Result<(), ()> {
    let has_room = open.iter().filter(|connection| counts(connection)).count() < limit;
    match has_room || evict(open, counts) {
        true => Ok(()),
        false => Err(()),
    }
}

/// Evicts the first in the order of eviction of those that `counts` selects. Returns whether there was one.
fn evict(open: &mut Vec<Arc<Connection>>, counts: impl Fn(&Connection) -> bool) -> bool {
    loop {
        let candidates = open.iter().enumerate().filter(|(_, one)| counts(one));
        let victim = candidates
            .filter_map(|(index, one)| Some((one.state.phase().eviction_rank()?, index)))
            .min();
        match victim {
            None => return false,
            // The rest of its request may have arrived meanwhile.
            Some((_, index)) if !open[index].state.evict() => continue,
            Some((_, index)) => {
                open.swap_remove(index);
                return true;
            }
        }
    }
}

impl ConnectionPermit {
    /// The phase of its connection.
    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.connection.state
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limit.open();
        // One that was evicted is not found: its place was given to another.
        let own = |other: &Arc<Connection>| Arc::ptr_eq(other, &self.connection);
        if let Some(index) = open.iter().position(own) {
            open.swap_remove(index);
        }
        drop(open);
        self.limit.metrics.connections(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::phase::ConnectionPhase;
    use tokio::time::{Duration, advance};

    fn limit_of(all: usize) -> Arc<ConnectionLimit> {
        ConnectionLimit::new(all, Arc::new(Metrics::new()))
    }

    fn acquire(
        limit: &Arc<ConnectionLimit>,
        address: &str,
    ) -> Result<ConnectionPermit, LimitReached> {
        let address: std::net::IpAddr = address.parse().unwrap();
        limit.acquire((address, 9).into(), false)
    }

    fn is_evicted(permit: &ConnectionPermit) -> bool {
        permit.state().phase() == ConnectionPhase::Evicted
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_connection_without_a_request_is_evicted_first() {
        let limit = limit_of(3);
        let asking = acquire(&limit, "127.0.0.1").unwrap();
        asking.state().head_received(true);
        let idle = acquire(&limit, "127.0.0.1").unwrap();
        idle.state().response_sent();
        advance(Duration::from_secs(1)).await;
        let slow = acquire(&limit, "127.0.0.1").unwrap();
        let first = acquire(&limit, "127.0.0.1").unwrap();
        assert!(is_evicted(&slow) && !is_evicted(&idle));
        first.state().head_received(true);
        let second = acquire(&limit, "127.0.0.1").unwrap();
        assert!(is_evicted(&idle));
        second.state().head_received(true);
        assert_eq!(
            acquire(&limit, "127.0.0.1").err(),
            Some(LimitReached::Server)
        );
        drop(asking);
        assert!(acquire(&limit, "127.0.0.1").is_ok());
    }

    #[tokio::test]
    async fn other_machines_leave_room_for_loopback_and_for_each_other() {
        let limit = limit_of(16);
        let busy = |address: &str| {
            let permit = acquire(&limit, address)?;
            permit.state().head_received(true);
            Ok(permit)
        };
        let greedy: Vec<ConnectionPermit> = (0..4).map(|_| busy("10.0.0.1").unwrap()).collect();
        assert_eq!(busy("10.0.0.1").err(), Some(LimitReached::Client));
        assert_eq!(busy("::ffff:10.0.0.1").err(), Some(LimitReached::Client));
        let mut others: Vec<ConnectionPermit> = (2..12)
            .map(|n| busy(&format!("10.0.0.{n}")).unwrap())
            .collect();
        assert_eq!(busy("10.0.0.99").err(), Some(LimitReached::Server));
        others.extend(["127.0.0.1", "::1"].map(|own| busy(own).unwrap()));
        assert_eq!(busy("127.0.0.1").err(), Some(LimitReached::Server));
        drop(greedy);
        assert!(busy("10.0.0.99").is_ok());
    }

    #[tokio::test]
    async fn connections_are_counted_for_each_server() {
        let [first, second] = [(); 2].map(|()| Arc::new(Metrics::new()));
        let limits = [&first, &second].map(|metrics| ConnectionLimit::new(1, metrics.clone()));
        let permits = limits.each_ref().map(|limit| {
            let permit = acquire(limit, "127.0.0.1").unwrap();
            // A request that runs is not evicted.
            permit.state().head_received(true);
            permit
        });
        let open = || [&first, &second].map(|metrics| metrics.open_connections());
        assert_eq!(open(), [1, 1]);
        let [ended, running] = permits;
        drop(ended);
        assert_eq!(open(), [0, 1]);
        assert!(acquire(&limits[0], "127.0.0.1").is_ok());
        assert!(acquire(&limits[1], "127.0.0.1").is_err());
        drop(running);
        assert_eq!(open(), [0, 0]);
    }

    #[tokio::test]
    async fn client_at_its_limit_evicts_only_its_own_connections() {
        let limit = limit_of(8);
        let other = acquire(&limit, "10.0.0.9").unwrap();
        let first = acquire(&limit, "2001:db8::1").unwrap();
        let second = acquire(&limit, "2001:db8::2").unwrap();
        let third = acquire(&limit, "2001:db8::3").unwrap();
        assert!(is_evicted(&first) && !is_evicted(&other));
        assert!(!is_evicted(&second) && !is_evicted(&third));
        drop(first);
        assert_eq!(limit.open.lock().unwrap().len(), 3);
    }
}
