//! Conversations that a client continues by `thread` instead of sending them again.
//!
//! `thread: {"type": "create"}` keeps the conversation, and `{"type": "continue", "previous_message_id"}` adds the request's
//! messages to it. Conversations are in memory only, for an hour, for the client that began them, and bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// Conversations, at most.
const MOST: usize = 1024;
/// Bytes of all of them, as JSON.
const MOST_BYTES: usize = 64 << 20;
/// How long one is kept.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);
/// The fields that make up a conversation.
const KEPT: [&str; 3] = ["system", "tools", "messages"];

/// All conversations. Clones are handles to the same.
#[derive(Clone, Default)]
pub(crate) struct MessageThreads(Arc<Mutex<VecDeque<Thread>>>);

struct Thread {
    owner: String,
    /// The id of its last message.
    id: String,
    began: Instant,
    bytes: usize,
    body: Map<String, Value>,
}

/// Why a `thread` cannot be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ThreadError {
    /// The message is unknown, has expired, or is another client's.
    #[error(
        "`thread` continues a message that is not kept here; send the whole conversation in `messages`"
    )]
    NotKept,
    /// It is something else.
    #[error("`thread` must be of the type `create` or `continue`")]
    Malformed,
}

/// A conversation that is kept once the answer is complete.
pub(crate) struct PendingThread {
    threads: MessageThreads,
    owner: String,
    body: Map<String, Value>,
}

impl MessageThreads {
    /// Takes `thread` from a body, and puts what it continues before its messages. Returns what to keep of it.
    pub(crate) fn resume(
        &self,
        owner: &str,
        body: &mut Map<String, Value>,
    ) -> Result<Option<PendingThread>, ThreadError> {
        let Some(thread) = body.remove("thread").filter(|thread| !thread.is_null()) else {
            return Ok(None);
        };
        match thread["type"].as_str() {
            Some("create") => {}
            Some("continue") => {
                let id = thread["previous_message_id"].as_str().unwrap_or_default();
                let Some(earlier) = self.recall(owner, id, Instant::now()) else {
                    return Err(ThreadError::NotKept);
                };
                for (name, value) in earlier {
                    match (body.get_mut(&name), value) {
                        (Some(Value::Array(new)), Value::Array(mut all)) if name == "messages" => {
                            all.append(new);
                            *new = all;
                        }
                        (Some(_), _) => {}
                        (None, value) => drop(body.insert(name, value)),
                    }
                }
            }
            _ => return Err(ThreadError::Malformed),
        }
        let kept = KEPT.iter().filter_map(|name| {
            let value = body.get(*name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        Ok(Some(PendingThread {
            threads: self.clone(),
            owner: owner.to_owned(),
            body: kept.collect(),
        }))
    }

    fn recall(&self, owner: &str, id: &str, now: Instant) -> Option<Map<String, Value>> {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = threads.iter().find(|thread| {
            thread.owner == owner && thread.id == id && now - thread.began < TIME_TO_LIVE
        });
        found.map(|thread| thread.body.clone())
    }

    fn insert(&self, thread: Thread) {
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push_back(thread);
        let is_full = |threads: &VecDeque<Thread>| {
            threads.len() > MOST
                || threads.iter().map(|thread| thread.bytes).sum::<usize>() > MOST_BYTES
        };
        while is_full(&threads) {
            threads.pop_front();
        }
    }
}

impl PendingThread {
    /// Keeps the conversation with the answer.
    pub(crate) fn keep(mut self, message: &Value) {
        let turn = json!({ "role": "assistant", "content": message["content"] });
        if let Some(Value::Array(messages)) = self.body.get_mut("messages") {
            messages.push(turn);
        }
        let bytes = Value::Object(self.body.clone()).to_string().len();
        self.threads.insert(Thread {
            owner: self.owner,
            id: message["id"].as_str().unwrap_or_default().to_owned(),
            began: Instant::now(),
            bytes,
            body: self.body,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn thread_is_continued_by_its_owner_only() {
        let threads = MessageThreads::default();
        let mut first = body(json!({
            "thread": {"type": "create"}, "tools": [{"name": "f"}], "messages": [{"role": "user", "content": "a"}],
        }));
        let pending = threads.resume("x", &mut first).unwrap().unwrap();
        assert!(!first.contains_key("thread"));
        pending.keep(&json!({"id": "msg_1", "content": "b"}));
        let more = json!({
            "thread": {"type": "continue", "previous_message_id": "msg_1"}, "messages": [{"role": "user", "content": "c"}],
        });
        let mut second = body(more.clone());
        threads.resume("x", &mut second).unwrap().unwrap();
        let contents: Vec<&Value> = second["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["content"])
            .collect();
        assert_eq!(contents, ["a", "b", "c"]);
        assert_eq!(second["tools"], json!([{"name": "f"}]));
        let refused = threads.resume("y", &mut body(more)).err();
        assert_eq!(refused, Some(ThreadError::NotKept));
    }

    #[test]
    fn oldest_thread_is_dropped_when_there_are_too_many() {
        let threads = MessageThreads::default();
        for number in 0..=MOST {
            let mut first = body(json!({"thread": {"type": "create"}, "messages": []}));
            let pending = threads.resume("x", &mut first).unwrap().unwrap();
            pending.keep(&json!({"id": format!("msg_{number}"), "content": ""}));
        }
        let now = Instant::now();
        assert!(threads.recall("x", "msg_0", now).is_none());
        assert!(threads.recall("x", "msg_1", now).is_some());
        assert!(threads.recall("x", "msg_1", now + TIME_TO_LIVE).is_none());
    }
}
