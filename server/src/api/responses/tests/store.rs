use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::generation::GenerationEnd;
use crate::api::protocol::tests::{arguments, body, call_start, counting_ids, end, full_answer};
use crate::api::protocol::{ReplyPart, TranslationError};
use crate::api::response_store::{PendingTurn, Store, StoreLimits};
use crate::api::responses::{ResponseEncoder, ResponsesRequest, translate, whole};

const MINUTE: Duration = Duration::from_secs(60);

fn store() -> Store {
    Store::new(StoreLimits {
        time_to_live: 10 * MINUTE,
        ..StoreLimits::default()
    })
}

fn request(
    store: &Store,
    owner: &str,
    value: Value,
    now: Instant,
) -> Result<ResponsesRequest, TranslationError> {
    translate(body(value), &mut |id| store.recall(owner, id, now))
}

/// Answers a request with `events` and stores the response under `id`.
fn answer(
    store: &mut Store,
    owner: &str,
    id: &str,
    value: Value,
    events: Vec<ReplyPart>,
    now: Instant,
) {
    let request = request(store, owner, value, now).unwrap();
    let mut ids = |_: &str| id.to_owned();
    let encoder = ResponseEncoder::new(request.echo, "m", 0, &mut ids);
    let reason = match events.last() {
        Some(ReplyPart::CallArguments { .. }) => GenerationEnd::Length,
        _ => GenerationEnd::Stop,
    };
    let response = whole(encoder, events, end(reason));
    store.insert(owner, request.pending.unwrap(), response, now);
}

fn text(text: &str) -> Vec<ReplyPart> {
    vec![ReplyPart::Content(text.into())]
}

fn pending(bytes: usize) -> PendingTurn {
    PendingTurn::new(Default::default(), vec!["x".repeat(bytes).into()])
}

#[test]
fn continuation_sends_items_of_all_turns_before_input() {
    let (mut store, now) = (store(), Instant::now());
    answer(
        &mut store,
        "ann",
        "resp_1",
        json!({ "input": "one", "instructions": "old" }),
        full_answer(),
        now,
    );
    let output =
        json!([{ "type": "function_call_output", "call_id": "call_0", "output": "a.txt" }]);
    let second = json!({ "input": output, "previous_response_id": "resp_1" });
    answer(&mut store, "ann", "resp_2", second, text("Done."), now);
    let third = json!({ "input": "three", "previous_response_id": "resp_2", "instructions": "new", "store": false });
    let third = request(&store, "ann", third, now).unwrap();
    let expected = json!([
        { "role": "system", "content": "new" },
        { "role": "user", "content": "one" },
        { "role": "assistant", "reasoning_content": "Run it.", "content": [{ "type": "text", "text": "Hello." }],
          "tool_calls": [
            { "id": "call_0", "type": "function", "function": { "name": "ls", "arguments": "{\"dir\": \".\"}" } } ] },
        { "role": "tool", "content": [{ "type": "text", "text": "a.txt" }], "tool_call_id": "call_0" },
        { "role": "assistant", "content": [{ "type": "text", "text": "Done." }] },
        { "role": "user", "content": "three" },
    ]);
    assert_eq!(third.translated.chat["messages"], expected);
    assert!(third.pending.is_none());
    let names = third.translated.names;
    assert_eq!(
        names.client("messages[2].tool_calls[0].function.arguments"),
        "previous_response_id"
    );
    assert_eq!(names.client("messages[5].content"), "input");
    let response = third.echo.into_response("resp_3", "m", 0);
    assert_eq!(response["previous_response_id"], "resp_2");
    assert_eq!(response["store"], false);
}

#[test]
fn unknown_expired_and_foreign_responses_are_refused_alike() {
    let (mut store, now) = (store(), Instant::now());
    answer(
        &mut store,
        "ann",
        "resp_1",
        json!({ "input": "one" }),
        text("a"),
        now,
    );
    let refused = |owner: &str, id: &str, now| {
        let value = json!({ "input": "two", "previous_response_id": id });
        request(&store, owner, value, now).unwrap_err()
    };
    let unknown = refused("ann", "resp_9", now);
    assert_eq!(unknown.param.as_deref(), Some("previous_response_id"));
    assert!(
        unknown
            .message
            .contains("send the whole conversation in `input`")
    );
    assert_eq!(refused("bob", "resp_1", now), unknown);
    assert_eq!(refused("ann", "resp_1", now + 10 * MINUTE), unknown);
    assert!(store.recall("ann", "resp_1", now + 9 * MINUTE).is_some());
}

#[test]
fn continuation_outlives_the_responses_before_it() {
    let (mut store, now) = (store(), Instant::now());
    answer(
        &mut store,
        "ann",
        "resp_1",
        json!({ "input": "one" }),
        text("a"),
        now,
    );
    let second = json!({ "input": "two", "previous_response_id": "resp_1" });
    answer(
        &mut store,
        "ann",
        "resp_2",
        second,
        text("b"),
        now + 9 * MINUTE,
    );
    let later = now + 11 * MINUTE;
    store.expire(later);
    assert_eq!(store.len(), 1);
    let history = store.recall("ann", "resp_2", later).unwrap();
    assert_eq!(history.items().count(), 4);
    drop(history);
    store.expire(now + 20 * MINUTE);
    assert_eq!((store.len(), store.bytes()), (0, 0));
}

#[test]
fn conversation_takes_linear_memory() {
    let (mut store, now) = (store(), Instant::now());
    let long = "x".repeat(10_000);
    for turn in 0..50 {
        let mut value = json!({ "input": long });
        if turn > 0 {
            value["previous_response_id"] = format!("resp_{}", turn - 1).into();
        }
        answer(
            &mut store,
            "ann",
            &format!("resp_{turn}"),
            value,
            text("a"),
            now,
        );
    }
    assert_eq!(store.len(), 50);
    assert!(store.bytes() < 50 * 20_000, "{}", store.bytes());
}

#[test]
fn limits_evict_oldest_response_of_busiest_owner() {
    let now = Instant::now();
    let mut store = Store::new(StoreLimits {
        entries: 3,
        bytes: 100_000,
        time_to_live: MINUTE,
    });
    let mut ids = counting_ids();
    for owner in ["bob", "ann", "ann", "ann"] {
        store.insert(owner, pending(10), json!({ "id": ids("resp_") }), now);
    }
    let kept = |store: &Store, owner, id| store.response(owner, id, now).is_some();
    assert!(kept(&store, "bob", "resp_1"));
    assert!(!kept(&store, "ann", "resp_2"));
    assert!(kept(&store, "ann", "resp_4"));
    store.insert("ann", pending(60_000), json!({ "id": ids("resp_") }), now);
    store.insert("ann", pending(60_000), json!({ "id": ids("resp_") }), now);
    assert!(store.bytes() <= 100_000);
    assert!(!kept(&store, "ann", "resp_5"));
    assert!(kept(&store, "ann", "resp_6"));
    store.insert("ann", pending(200_000), json!({ "id": ids("resp_") }), now);
    assert!(!kept(&store, "ann", "resp_7"));
    assert!(kept(&store, "ann", "resp_6"));
}

#[test]
fn owner_of_most_bytes_evicts_no_response_of_another() {
    let now = Instant::now();
    let mut store = Store::new(StoreLimits {
        entries: 1000,
        bytes: 1_000_000,
        time_to_live: MINUTE,
    });
    let mut ids = counting_ids();
    for _ in 0..40 {
        store.insert("bob", pending(10_000), json!({ "id": ids("bob_") }), now);
    }
    for _ in 0..20 {
        store.insert("ann", pending(180_000), json!({ "id": ids("ann_") }), now);
        assert!(store.bytes() <= 1_000_000, "{}", store.bytes());
    }
    for number in 1..=40 {
        let id = format!("bob_{number}");
        assert!(store.response("bob", &id, now).is_some(), "{id}");
    }
    assert!(store.response("ann", "ann_60", now).is_some());
    assert!(store.response("ann", "ann_41", now).is_none());
}

#[test]
fn turns_that_a_conversation_shares_count_once_for_its_owner() {
    let now = Instant::now();
    let mut store = Store::new(StoreLimits {
        entries: 1000,
        bytes: 1_000_000,
        time_to_live: MINUTE,
    });
    // Twenty responses share the first turn: 200,000 bytes, not four million.
    let long = "x".repeat(200_000);
    answer(
        &mut store,
        "bob",
        "bob_0",
        json!({ "input": long }),
        text("a"),
        now,
    );
    for turn in 1..20 {
        let previous = format!("bob_{}", turn - 1);
        let value = json!({ "input": "x", "previous_response_id": previous });
        answer(
            &mut store,
            "bob",
            &format!("bob_{turn}"),
            value,
            text("a"),
            now,
        );
    }
    for turn in 0..5 {
        store.insert(
            "ann",
            pending(200_000),
            json!({ "id": format!("ann_{turn}") }),
            now,
        );
    }
    assert!(store.bytes() <= 1_000_000, "{}", store.bytes());
    assert!(store.response("bob", "bob_0", now).is_some());
    assert!(store.response("ann", "ann_4", now).is_some());
}

#[test]
fn deleted_response_is_gone_for_its_owner_only() {
    let (mut store, now) = (store(), Instant::now());
    answer(
        &mut store,
        "ann",
        "resp_1",
        json!({ "input": "one" }),
        text("a"),
        now,
    );
    assert!(!store.delete("bob", "resp_1", now));
    assert_eq!(
        store.response("ann", "resp_1", now).unwrap()["id"],
        "resp_1"
    );
    assert!(store.delete("ann", "resp_1", now));
    assert!(!store.delete("ann", "resp_1", now));
    assert!(store.is_empty());
    assert_eq!(store.bytes(), 0);
}

#[test]
fn cut_call_is_not_continued() {
    let (mut store, now) = (store(), Instant::now());
    let events = vec![
        ReplyPart::Content("a".into()),
        call_start(0, "ls"),
        arguments(0, "{"),
    ];
    answer(
        &mut store,
        "ann",
        "resp_1",
        json!({ "input": "one" }),
        events,
        now,
    );
    let history = store.recall("ann", "resp_1", now).unwrap();
    let kinds: Vec<&Value> = history.items().map(|item| &item["type"]).collect();
    assert_eq!(kinds, [&Value::Null, &json!("message")]);
}
