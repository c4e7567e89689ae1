//! Responses that clients can continue by `previous_response_id`.
//!
//! Responses are kept in memory only: a restart forgets them. [`StoreLimits`] bounds their number, their bytes and their
//! age. A response belongs to the client that requested it, its owner; to other clients it does not exist.
//!
//! Each response keeps what it added to the conversation: its input items and its output. A continuation shares the
//! turns before it, so a conversation of `n` turns takes memory for `n` turns, not for `n²`. A turn is freed when the
//! last response that continues it is gone: a client can continue the newest response of a conversation although the
//! older ones have expired.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::continued;

/// What a [`Store`] may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StoreLimits {
    /// The number of responses.
    pub entries: usize,
    /// Their memory, as estimated from their JSON.
    pub bytes: usize,
    /// How long a response is kept after it was added. Continuing it does not extend this.
    pub time_to_live: Duration,
}

impl Default for StoreLimits {
    /// 1,024 responses, 64 MiB, one hour.
    fn default() -> Self {
        Self {
            entries: 1024,
            bytes: 64 << 20,
            time_to_live: Duration::from_secs(3600),
        }
    }
}

/// The conversation that a response ended, itself included, from its first turn on.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConversationHistory(Vec<Arc<Turn>>);

/// The turn that a request adds to a conversation once its response is complete.
#[derive(Debug)]
pub(crate) struct PendingTurn {
    history: ConversationHistory,
    input: Vec<Value>,
    /// Whether the answer continues the last item of the input.
    continues: bool,
}

#[derive(Debug)]
struct Turn {
    input: Vec<Value>,
    response: Value,
    bytes: usize,
    /// The sums of the bytes of turns that are alive: the store's, and its owner's.
    sums: [Arc<AtomicUsize>; 2],
    /// The output that the input ends with, if the response continued it.
    continued: Option<usize>,
}

/// What one owner has in the store.
#[derive(Debug, Default)]
struct OwnerShare {
    /// Its responses.
    entries: usize,
    /// The bytes of its turns that are alive, each counted once however many responses share it.
    bytes: Arc<AtomicUsize>,
}

/// The responses that are kept.
#[derive(Debug)]
pub(crate) struct Store {
    limits: StoreLimits,
    /// By order of arrival, which is also the order of expiry.
    entries: BTreeMap<u64, StoreEntry>,
    by_id: HashMap<String, u64>,
    arrivals: u64,
    bytes: Arc<AtomicUsize>,
    owners: HashMap<String, OwnerShare>,
}

#[derive(Debug)]
struct StoreEntry {
    id: String,
    owner: String,
    added: Instant,
    history: ConversationHistory,
}

impl ConversationHistory {
    /// All items of the conversation, in order. A call that was cut is left out: its arguments are not valid JSON.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Value> {
        let turns = self.0.iter();
        let items = turns.flat_map(|turn| {
            let output = output(&turn.response).enumerate();
            let output = output.filter(|(index, _)| turn.continued != Some(*index));
            turn.input.iter().chain(output.map(|(_, item)| item))
        });
        items.filter(|item| !(item["type"] == "function_call" && item["status"] == "incomplete"))
    }

    fn last(&self) -> Option<&Turn> {
        self.0.last().map(Arc::as_ref)
    }
}

impl PendingTurn {
    /// `input` continues `history`.
    pub(crate) fn new(history: ConversationHistory, input: Vec<Value>) -> Self {
        Self {
            history,
            input,
            continues: false,
        }
    }

    /// The same; `continues` if the answer continues the last item of the input, which is an assistant's message.
    pub(crate) fn continuing(self, continues: bool) -> Self {
        Self { continues, ..self }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for sum in &self.sums {
            sum.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Store {
    /// An empty store.
    pub(crate) fn new(limits: StoreLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            arrivals: 0,
            bytes: Arc::default(),
            owners: HashMap::new(),
        }
    }

    /// The number of responses, expired ones that were not removed yet included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no response.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The estimated memory of all turns that are alive, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds a finished response: the object that the client received, with its `id` and `output`.
    ///
    /// Where limits are exceeded, the owner with the most bytes, or the most responses, loses its oldest one, until they
    /// are not: a client that sends much does not evict the responses of others. A turn that is larger than the whole
    /// store is not kept.
    pub(crate) fn insert(
        &mut self,
        owner: &str,
        pending: PendingTurn,
        response: Value,
        now: Instant,
    ) {
        self.expire(now);
        let Some(id) = response["id"].as_str().map(str::to_owned) else {
            return;
        };
        let PendingTurn {
            mut history,
            mut input,
            continues,
        } = pending;
        let continued = match continues {
            true => continued::join(&mut input, output(&response)),
            false => None,
        };
        let links = (history.0.len() + 1) * size_of::<Arc<Turn>>();
        let items: usize = input.iter().map(size).sum();
        let bytes = size_of::<Turn>() + size_of::<StoreEntry>() + links + items + size(&response);
        if bytes > self.limits.bytes {
            return;
        }
        self.remove_id(&id);
        let share = self.owners.entry(owner.to_owned()).or_default();
        share.entries += 1;
        let sums = [self.bytes.clone(), share.bytes.clone()];
        for sum in &sums {
            sum.fetch_add(bytes, Ordering::Relaxed);
        }
        history.0.push(Arc::new(Turn {
            input,
            response,
            bytes,
            sums,
            continued,
        }));
        self.arrivals += 1;
        self.by_id.insert(id.clone(), self.arrivals);
        let entry = StoreEntry {
            id,
            owner: owner.to_owned(),
            added: now,
            history,
        };
        self.entries.insert(self.arrivals, entry);
        loop {
            let oldest = if self.bytes() > self.limits.bytes {
                self.oldest_of_largest(|share| share.bytes.load(Ordering::Relaxed))
            } else if self.entries.len() > self.limits.entries {
                self.oldest_of_largest(|share| share.entries)
            } else {
                break;
            };
            let Some(oldest) = oldest else { break };
            self.remove(oldest);
        }
    }

    /// The conversation up to a response, if it is there, has not expired and belongs to `owner`.
    pub(crate) fn recall(
        &self,
        owner: &str,
        id: &str,
        now: Instant,
    ) -> Option<ConversationHistory> {
        self.entry(owner, id, now)
            .map(|entry| entry.history.clone())
    }

    /// A response as the client received it, under the conditions of [`recall`](Self::recall).
    pub(crate) fn response(&self, owner: &str, id: &str, now: Instant) -> Option<&Value> {
        let turn = self.entry(owner, id, now)?.history.last()?;
        Some(&turn.response)
    }

    /// Deletes a response. Returns whether it was there and belonged to `owner`. Continuations of it remain.
    pub(crate) fn delete(&mut self, owner: &str, id: &str, now: Instant) -> bool {
        let found = self.entry(owner, id, now).is_some();
        if found {
            self.remove_id(id);
        }
        found
    }

    /// Removes what has expired. [`insert`](Self::insert) does so too; call it from time to time to free memory of an
    /// idle server.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((&arrival, entry)) = self.entries.first_key_value() {
            if !self.is_expired(entry, now) {
                break;
            }
            self.remove(arrival);
        }
        // Turns outlive their responses while a request continues them.
        self.owners
            .retain(|_, share| share.entries > 0 || Arc::strong_count(&share.bytes) > 1);
    }

    fn is_expired(&self, entry: &StoreEntry, now: Instant) -> bool {
        now.saturating_duration_since(entry.added) >= self.limits.time_to_live
    }

    fn entry(&self, owner: &str, id: &str, now: Instant) -> Option<&StoreEntry> {
        let entry = self.entries.get(self.by_id.get(id)?)?;
        (entry.owner == owner && !self.is_expired(entry, now)).then_some(entry)
    }

    /// The oldest response of the owner that has most of what is measured.
    fn oldest_of_largest(&self, measure: impl Fn(&OwnerShare) -> usize) -> Option<u64> {
        let mut oldest: HashMap<&str, u64> = HashMap::new();
        for (arrival, entry) in &self.entries {
            oldest.entry(&entry.owner).or_insert(*arrival);
        }
        // Between owners that have the same, the oldest response goes.
        let largest = oldest.into_iter().max_by_key(|&(owner, oldest)| {
            let measured = self.owners.get(owner).map_or(0, &measure);
            (measured, u64::MAX - oldest)
        });
        largest.map(|(_, oldest)| oldest)
    }

    fn remove_id(&mut self, id: &str) {
        if let Some(arrival) = self.by_id.get(id) {
            self.remove(*arrival);
        }
    }

    fn remove(&mut self, arrival: u64) {
        if let Some(entry) = self.entries.remove(&arrival) {
            self.by_id.remove(&entry.id);
            if let Some(share) = self.owners.get_mut(&entry.owner) {
                share.entries -= 1;
            }
        }
    }
}

fn output(response: &Value) -> impl Iterator<Item = &Value> {
    response["output"].as_array().into_iter().flatten()
}

/// An estimate of the memory that a value takes.
fn size(value: &Value) -> usize {
    // The hash, the table's slot and the key's own header.
    const MEMBER: usize = 48;
    let below = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| MEMBER + key.len() + size(value))
            .sum(),
    };
    size_of::<Value>() + below
}
