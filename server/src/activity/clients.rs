//! The clients that have requests now, or had some a moment ago.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::time::{Duration, Instant};

use crate::client_key::ClientKey;

/// How long a client without requests is still listed.
const LISTED: Duration = Duration::from_secs(15 * 60);
/// Clients without requests that are listed, at most. Those with requests are as many as there may be connections.
const MOST_IDLE: usize = 256;

/// The accepted clients of a server.
#[derive(Debug, Default)]
pub(crate) struct RecentClients(Mutex<HashMap<ClientKey, ClientEntry>>);

/// Whether the answer to a request has begun: shared by the request and the list of clients.
pub(crate) type HasBegun = Arc<AtomicBool>;

#[derive(Debug)]
struct ClientEntry {
    auth: &'static str,
    requests: u64,
    /// Requests that are not answered yet.
    open: usize,
    /// Those of them that a model answers.
    generations: Vec<HasBegun>,
    /// When its last request came or ended.
    seen: Instant,
}

/// One request, which counts for its client until this is dropped.
#[derive(Debug)]
pub(crate) struct ClientVisit {
    clients: Arc<RecentClients>,
    client: ClientKey,
    generation: Option<HasBegun>,
}

/// A client, for operators.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ClientStatus {
    /// The name in its certificate, its address, `loopback` or `loopback with token`.
    pub client: String,
    /// How its last request was authenticated: `mtls`, `bearer`, `loopback` or `disabled`.
    pub auth: &'static str,
    /// Requests to models whose answers have begun.
    pub running: usize,
    /// Requests to models that wait for the first token.
    pub waiting: usize,
    /// Requests to any route since it is listed.
    pub requests: u64,
    /// Since its last request came or ended; 0 while it has one.
    pub idle_seconds: f64,
}

impl RecentClients {
    /// A request of this client begins. `generation` is none where no model answers it.
    pub(crate) fn enter(
        self: &Arc<Self>,
        client: ClientKey,
        auth: &'static str,
        generation: Option<HasBegun>,
    ) -> ClientVisit {
        let now = Instant::now();
        let mut entries = self.entries();
        if !entries.contains_key(&client) {
            forget(&mut entries, now);
        }
        let entry = entries.entry(client.clone()).or_insert(ClientEntry {
            auth,
            requests: 0,
            open: 0,
            generations: Vec::new(),
            seen: now,
        });
        entry.auth = auth;
        entry.requests += 1;
        entry.open += 1;
        entry.seen = now;
        entry.generations.extend(generation.clone());
        ClientVisit {
            clients: self.clone(),
            client,
            generation,
        }
    }

    /// Those with requests first, then by how long ago their last one was.
    pub(crate) fn read(&self) -> Vec<ClientStatus> {
        let now = Instant::now();
        let mut entries = self.entries();
        forget(&mut entries, now);
        let mut all: Vec<_> = entries
            .iter()
            .map(|(client, entry)| entry.status(client, now))
            .collect();
        drop(entries);
        all.sort_by(|a, b| {
            let busy = |one: &ClientStatus| one.running + one.waiting;
            let order = busy(b).cmp(&busy(a));
            let order = order.then(a.idle_seconds.total_cmp(&b.idle_seconds));
            order.then_with(|| a.client.cmp(&b.client))
        });
        all
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ClientKey, ClientEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientEntry {
    fn status(&self, client: &ClientKey, now: Instant) -> ClientStatus {
        let begun = |one: &&HasBegun| one.load(Relaxed);
        let running = self.generations.iter().filter(begun).count();
        ClientStatus {
            client: client.label(),
            auth: self.auth,
            running,
            waiting: self.generations.len() - running,
            requests: self.requests,
            idle_seconds: match self.open {
                0 => (now - self.seen).as_secs_f64(),
                _ => 0.0,
            },
        }
    }
}

/// Removes clients whose last request was long ago, and beyond [`MOST_IDLE`] the one without requests that is idle longest.
fn forget(entries: &mut HashMap<ClientKey, ClientEntry>, now: Instant) {
    entries.retain(|_, entry| entry.open > 0 || now - entry.seen < LISTED);
    let idle = entries.iter().filter(|(_, entry)| entry.open == 0);
    if idle.clone().count() < MOST_IDLE {
        return;
    }
    let oldest = idle.min_by_key(|(_, entry)| entry.seen);
    if let Some(oldest) = oldest.map(|(client, _)| client.clone()) {
        entries.remove(&oldest);
    }
}

impl Drop for ClientVisit {
    fn drop(&mut self) {
        let mut entries = self.clients.entries();
        let Some(entry) = entries.get_mut(&self.client) else {
            return;
        };
        entry.open -= 1;
        entry.seen = Instant::now();
        if let Some(own) = &self.generation {
            entry.generations.retain(|one| !Arc::ptr_eq(one, own));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn certificate(name: &str) -> ClientKey {
        ClientKey::Certificate(name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn client_is_listed_with_its_requests_and_for_a_while_after_them() {
        let clients = Arc::new(RecentClients::default());
        let begun = HasBegun::default();
        let first = clients.enter(certificate("ada"), "mtls", Some(begun.clone()));
        let second = clients.enter(certificate("ada"), "mtls", Some(HasBegun::default()));
        let other = clients.enter(ClientKey::Loopback, "loopback", None);
        let counts = |clients: &RecentClients| {
            let all = clients.read();
            let counts = all
                .iter()
                .map(|one| (one.client.clone(), one.running, one.waiting));
            counts.collect::<Vec<_>>()
        };
        let loopback = ("loopback".to_owned(), 0, 0);
        assert_eq!(counts(&clients), [("ada".into(), 0, 2), loopback.clone()]);
        begun.store(true, Relaxed);
        assert_eq!(counts(&clients), [("ada".into(), 1, 1), loopback.clone()]);
        drop((first, second, other));
        advance(Duration::from_secs(60)).await;
        let ada = clients.read().into_iter().find(|one| one.client == "ada");
        let ada = ada.unwrap();
        assert_eq!((ada.running, ada.waiting, ada.requests), (0, 0, 2));
        assert_eq!(ada.idle_seconds, 60.0);
        advance(LISTED).await;
        assert_eq!(clients.read(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_clients_are_bounded_and_busy_ones_stay() {
        let clients = Arc::new(RecentClients::default());
        let _busy = clients.enter(certificate("busy"), "mtls", None);
        for n in 0..2 * MOST_IDLE {
            drop(clients.enter(certificate(&format!("client {n}")), "mtls", None));
            advance(Duration::from_millis(1)).await;
        }
        let all = clients.read();
        assert!(all.len() <= MOST_IDLE + 1, "{}", all.len());
        assert_eq!(all[0].client, "busy");
        assert_eq!(all[1].client, format!("client {}", 2 * MOST_IDLE - 1));
    }
}
