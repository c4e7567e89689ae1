//! Conversations that a client continues by `thread` instead of sending them again.
//!
//! `thread: {"type": "create"}` keeps the conversation, and `{"type": "continue", "previous_message_id"}` puts it before the
//! request's messages. A turn's input in the store is the messages that the request added; its answer has the assistant's
//! message as `output`, and `system` and `tools`, which a continuation may leave out.

use serde_json::{Map, Value, json};

use crate::api::client_path::Path;
use crate::api::protocol::TranslationError;
use crate::api::response_store::{ConversationHistory, PendingTurn};

/// The fields besides the messages that a continuation inherits.
const INHERITED: [&str; 2] = ["system", "tools"];

/// A thread that the request continues or begins.
pub(super) struct ThreadTurn {
    /// What to keep once the answer is complete.
    pub(super) turn: PendingTurn,
    /// The fields that the next request inherits.
    pub(super) inherited: Map<String, Value>,
}

/// Takes `thread` from a body, and completes the body with what it continues: `recall` gives the conversation up to a message
/// and that message's answer. None without `thread`.
pub(super) fn resume(
    body: &mut Map<String, Value>,
    recall: impl FnOnce(&str) -> Option<(ConversationHistory, Value)>,
) -> Result<Option<ThreadTurn>, TranslationError> {
    let Some(thread) = body.remove("thread").filter(|thread| !thread.is_null()) else {
        return Ok(None);
    };
    let path = Path::root("thread");
    let history = match thread["type"].as_str() {
        Some("create") => ConversationHistory::default(),
        Some("continue") => {
            let place = path.field("previous_message_id");
            let id = match &thread["previous_message_id"] {
                Value::Null => return Err(TranslationError::missing(&place)),
                Value::String(id) => id,
                _ => return Err(TranslationError::must_be(&place, "a string")),
            };
            let Some((history, last)) = recall(id) else {
                let message = "`thread` continues a message that is not kept here; send the whole conversation in `messages`";
                return Err(TranslationError::new(&path, message));
            };
            for name in INHERITED {
                let is_absent = body.get(name).is_none_or(Value::is_null);
                if let Some(value) = last.get(name).filter(|_| is_absent) {
                    body.insert(name.into(), value.clone());
                }
            }
            let messages = body.get("messages").and_then(Value::as_array);
            if messages.is_some_and(Vec::is_empty) {
                let path = Path::root("messages");
                let message = format!("`{path}` is empty; send one at least");
                return Err(TranslationError::new(&path, message));
            }
            history
        }
        _ => {
            return Err(TranslationError::must_be(
                &path,
                "an object of the type `create` or `continue`",
            ));
        }
    };
    let inherited = INHERITED.iter().filter_map(|name| {
        let value = body.get(*name).filter(|value| !value.is_null())?;
        Some(((*name).to_owned(), value.clone()))
    });
    let inherited = inherited.collect();
    let mut added = Vec::new();
    if let Some(Value::Array(messages)) = body.get_mut("messages") {
        added.clone_from(messages);
        messages.splice(0..0, history.items().cloned());
    }
    // The answer continues a final message of the assistant.
    let continues = added.last().is_some_and(|last| last["role"] == "assistant");
    Ok(Some(ThreadTurn {
        turn: PendingTurn::new(history, added).continuing(continues),
        inherited,
    }))
}

/// What is kept of an answer.
pub(super) fn kept(message: &Value, inherited: Map<String, Value>) -> Value {
    let turn = json!({ "role": "assistant", "content": message["content"] });
    let mut kept = inherited;
    kept.insert("id".into(), message["id"].clone());
    kept.insert("output".into(), json!([turn]));
    kept.into()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::api::response_store::{Store, StoreLimits};

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn thread_is_continued_with_its_messages_and_tools() {
        let mut store = Store::new(StoreLimits::default());
        let now = Instant::now();
        let mut previous = json!({"type": "create"});
        for (number, question) in ["a", "c", "e"].into_iter().enumerate() {
            let mut request = body(json!({
                "thread": previous, "messages": [{"role": "user", "content": question}],
            }));
            if number == 0 {
                request.insert("tools".into(), json!([{"name": "f"}]));
            }
            let recall = |id: &str| {
                Some((
                    store.recall("x", id, now)?,
                    store.response("x", id, now)?.clone(),
                ))
            };
            let resumed = resume(&mut request, recall).unwrap().unwrap();
            assert_eq!(request["tools"], json!([{"name": "f"}]));
            let messages = request["messages"].as_array().unwrap();
            let contents: Vec<&str> = messages
                .iter()
                .map(|m| m["content"].as_str().unwrap())
                .collect();
            assert_eq!(contents, ["a", "b", "c", "d", "e"][..=2 * number]);
            let message =
                json!({"id": format!("msg_{number}"), "content": (["b", "d", "f"][number])});
            store.insert("x", resumed.turn, kept(&message, resumed.inherited), now);
            previous = json!({"type": "continue", "previous_message_id": format!("msg_{number}")});
        }
    }

    #[test]
    fn thread_that_is_not_kept_or_malformed_is_refused() {
        for thread in [
            json!({"type": "continue", "previous_message_id": "msg_9"}),
            json!({"type": "fork"}),
            json!(3),
        ] {
            let mut request = body(json!({"thread": thread, "messages": []}));
            let refusal = resume(&mut request, |_| None).err().unwrap();
            assert_eq!(refusal.param.as_deref(), Some("thread"));
        }
        assert!(
            resume(&mut body(json!({"messages": []})), |_| None)
                .unwrap()
                .is_none()
        );
    }
}
