//! Who may have a connection, when there are many.
//!
//! A server that is told 1024 connections gives out 1024 seats. Three limits stand between a crowd and those who have
//! business here:
//!
//! - All seats together: `max_connections`.
//! - An eighth of them is kept for loopback, so that the watchdogs and the operator always get in.
//! - One other client by its address ([`ClientKey`]) has a quarter at most.
//!
//! Where a newcomer meets a limit, whoever is most dispensable within that limit goes instead: first the oldest that
//! is still in its TLS handshake or its head, then who has been idle longest, then the oldest whose body is coming
//! ([`Phase::dispensable`](super::phase::Phase::dispensable)). A thousand clients that send a byte a second therefore
//! make room for each other, and a client that says what it wants in one go is not in their way for longer than a
//! moment. Only where everybody waits for an answer is the newcomer refused.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::phase::Progress;
use crate::client_key::ClientKey;
use crate::metrics::Metrics;

/// The seats of a server, on all of its listeners together.
pub struct Seats {
    limits: Limits,
    taken: Mutex<Vec<Arc<Taken>>>,
    metrics: Arc<Metrics>,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    all: usize,
    /// Of those from other machines.
    outside: usize,
    /// Of those from one other client.
    client: usize,
}

/// A connection's right to be there; given back when it is dropped.
pub struct Seat {
    taken: Arc<Taken>,
    seats: Arc<Seats>,
}

struct Taken {
    client: ClientKey,
    progress: Arc<Progress>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All are taken by those who wait for an answer.
    Server,
    /// This client has all that it may have.
    Client,
}

impl Full {
    /// As `/metrics` calls it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Server => "full",
            Self::Client => "full_for_peer",
        }
    }
}

impl Limits {
    fn of(all: usize) -> Self {
        Self {
            all,
            outside: (all - all / 8).max(1),
            client: (all / 4).max(1),
        }
    }
}

impl Seats {
    /// So many seats, none of them taken.
    pub fn new(all: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            limits: Limits::of(all.max(1)),
            taken: Mutex::default(),
            metrics,
        })
    }

    /// A seat for a connection from `address`, taken from another one if need be.
    pub fn take(self: &Arc<Self>, address: SocketAddr, secure: bool) -> Result<Seat, Full> {
        let client = ClientKey::of_address(address);
        // A thousand entries are gone through in microseconds; nothing here needs an index.
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !client.is_loopback() {
            let same = |other: &Taken| other.client == client;
            make_room(&mut all, self.limits.client, same).map_err(|()| Full::Client)?;
            let outside = |other: &Taken| !other.client.is_loopback();
            make_room(&mut all, self.limits.outside, outside).map_err(|()| Full::Server)?;
        }
        make_room(&mut all, self.limits.all, |_| true).map_err(|()| Full::Server)?;
        let taken = Arc::new(Taken {
            client,
            progress: Arc::new(Progress::new(secure)),
        });
        all.push(taken.clone());
        drop(all);
        self.metrics.connections(1.0);
        Ok(Seat {
            taken,
            seats: self.clone(),
        })
    }

    /// Ends the most dispensable connection, where the system has no room for more.
    pub fn shed(&self) {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        evict(&mut all, |_| true);
    }
}

/// Sees to it that fewer than `limit` connections are left of those that `counts`.
fn make_room(
    all: &mut Vec<Arc<Taken>>,
    limit: usize,
    counts: impl Fn(&Taken) -> bool,
) -> Result<(), ()> {
    let room = all.iter().filter(|taken| counts(taken)).count() < limit;
    if room || evict(all, counts) {
        Ok(())
    } else {
        Err(())
    }
}

/// Ends the most dispensable of those that `counts`; whether there was one.
fn evict(all: &mut Vec<Arc<Taken>>, counts: impl Fn(&Taken) -> bool) -> bool {
    loop {
        let candidates = all.iter().enumerate().filter(|(_, taken)| counts(taken));
        let victim = candidates
            .filter_map(|(index, taken)| Some((taken.progress.phase().dispensable()?, index)))
            .min();
        match victim {
            None => return false,
            // It may have sent the rest of its request since we looked.
            Some((_, index)) if !all[index].progress.evict() => continue,
            Some((_, index)) => {
                all.swap_remove(index);
                return true;
            }
        }
    }
}

impl Seat {
    /// How far its connection is.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.taken.progress
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self
            .seats
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Not found: its place was given to another when it was evicted.
        if let Some(index) = all.iter().position(|other| Arc::ptr_eq(other, &self.taken)) {
            all.swap_remove(index);
        }
        drop(all);
        self.seats.metrics.connections(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::phase::Phase;
    use tokio::time::{Duration, advance};

    fn seats(all: usize) -> Arc<Seats> {
        Seats::new(all, Arc::new(Metrics::new()))
    }

    fn take(seats: &Arc<Seats>, address: &str) -> Result<Seat, Full> {
        let address: std::net::IpAddr = address.parse().unwrap();
        seats.take((address, 9).into(), false)
    }

    fn is_evicted(seat: &Seat) -> bool {
        seat.progress().phase() == Phase::Evicted
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_has_asked_for_nothing_makes_room() {
        let seats = seats(3);
        let asking = take(&seats, "127.0.0.1").unwrap();
        asking.progress().asked(true);
        let idle = take(&seats, "127.0.0.1").unwrap();
        idle.progress().answered();
        advance(Duration::from_secs(1)).await;
        let slow = take(&seats, "127.0.0.1").unwrap();
        let first = take(&seats, "127.0.0.1").unwrap();
        assert!(is_evicted(&slow) && !is_evicted(&idle));
        first.progress().asked(true);
        let second = take(&seats, "127.0.0.1").unwrap();
        assert!(is_evicted(&idle));
        second.progress().asked(true);
        assert_eq!(take(&seats, "127.0.0.1").err(), Some(Full::Server));
        drop(asking);
        assert!(take(&seats, "127.0.0.1").is_ok());
    }

    #[tokio::test]
    async fn other_machines_leave_room_for_loopback_and_for_each_other() {
        let seats = seats(16);
        let busy = |address: &str| {
            let seat = take(&seats, address)?;
            seat.progress().asked(true);
            Ok(seat)
        };
        let greedy: Vec<Seat> = (0..4).map(|_| busy("10.0.0.1").unwrap()).collect();
        assert_eq!(busy("10.0.0.1").err(), Some(Full::Client));
        assert_eq!(busy("::ffff:10.0.0.1").err(), Some(Full::Client));
        let mut others: Vec<Seat> = (2..12)
            .map(|n| busy(&format!("10.0.0.{n}")).unwrap())
            .collect();
        assert_eq!(busy("10.0.0.99").err(), Some(Full::Server));
        others.extend(["127.0.0.1", "::1"].map(|own| busy(own).unwrap()));
        assert_eq!(busy("127.0.0.1").err(), Some(Full::Server));
        drop(greedy);
        assert!(busy("10.0.0.99").is_ok());
    }

    #[tokio::test]
    async fn a_machine_at_its_limit_pushes_only_itself_out() {
        let seats = seats(8);
        let other = take(&seats, "10.0.0.9").unwrap();
        let first = take(&seats, "2001:db8::1").unwrap();
        let second = take(&seats, "2001:db8::2").unwrap();
        let third = take(&seats, "2001:db8::3").unwrap();
        assert!(is_evicted(&first) && !is_evicted(&other));
        assert!(!is_evicted(&second) && !is_evicted(&third));
        drop(first);
        assert_eq!(seats.taken.lock().unwrap().len(), 3);
    }
}
