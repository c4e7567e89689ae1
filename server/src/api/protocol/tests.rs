//! What the tests of all protocols share.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{AnswerEnd, AnswerUsage, ReplyPart};
use crate::api::generation::GenerationEnd;

/// An id generator that counts: `resp_1`, `resp_2`, …
pub(crate) fn counting_ids() -> impl FnMut(&str) -> String {
    let mut count = 0;
    move |prefix| {
        count += 1;
        format!("{prefix}{count}")
    }
}

/// The members of an object.
pub(crate) fn body(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}

/// An end with a usage whose numbers differ.
pub(crate) fn end(reason: GenerationEnd) -> AnswerEnd {
    let usage = AnswerUsage {
        prompt: 42,
        cached: 30,
        completion: 9,
        reasoning: 4,
    };
    AnswerEnd { reason, usage }
}

/// Reasoning, text and a call, in two pieces each.
pub(crate) fn full_answer() -> Vec<ReplyPart> {
    vec![
        ReplyPart::Reasoning("Run ".into()),
        ReplyPart::Reasoning("it.".into()),
        ReplyPart::Content("Hel".into()),
        ReplyPart::Content("lo.".into()),
        call_start(0, "ls"),
        arguments(0, "{\"dir\": "),
        arguments(0, "\".\"}"),
        ReplyPart::CallEnd { index: 0 },
    ]
}

/// The start of call `index`.
pub(crate) fn call_start(index: usize, name: &str) -> ReplyPart {
    ReplyPart::CallStart {
        index,
        name: name.into(),
        id: format!("call_{index}"),
    }
}

/// More arguments of call `index`.
pub(crate) fn arguments(index: usize, delta: &str) -> ReplyPart {
    ReplyPart::CallArguments {
        index,
        delta: delta.into(),
    }
}

/// Any events, in any order: also those that no parser makes.
pub(crate) fn any_events() -> impl Strategy<Value = Vec<ReplyPart>> {
    let piece = "[a-z \\n\"\\\\é{}:,1]{0,6}";
    let event = prop_oneof![
        piece.prop_map(ReplyPart::Reasoning),
        piece.prop_map(ReplyPart::Content),
        (0..3usize).prop_map(|index| call_start(index, "f")),
        (0..3usize, piece).prop_map(|(index, delta)| arguments(index, &delta)),
        (0..3usize).prop_map(|index| ReplyPart::CallEnd { index }),
    ];
    prop::collection::vec(event, 0..24)
}

/// Any reason.
pub(crate) fn any_end() -> impl Strategy<Value = AnswerEnd> {
    prop_oneof![
        Just(GenerationEnd::Stop),
        Just(GenerationEnd::Length),
        Just(GenerationEnd::ToolCalls),
        "[a-z]{1,3}".prop_map(GenerationEnd::StopString),
    ]
    .prop_map(end)
}

/// An object with a `type` and a `role` out of `words`, and further members as of [`any_json`].
pub(crate) fn any_typed(
    keys: &'static [&'static str],
    words: &'static [&'static str],
) -> impl Strategy<Value = Value> {
    let word = || prop::sample::select(words);
    let members = prop::collection::vec((prop::sample::select(keys), any_json(keys, words)), 0..6);
    (word(), word(), members).prop_map(|(kind, role, members)| {
        let mut object = body(json!({ "type": kind, "role": role }));
        for (key, value) in members {
            object.entry(key).or_insert(value);
        }
        object.into()
    })
}

/// JSON in which the `keys` of a protocol and the `words` that it uses as values are frequent, so that its deeper
/// parts are reached.
pub(crate) fn any_json(
    keys: &'static [&'static str],
    words: &'static [&'static str],
) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..9i64).prop_map(Value::from),
        prop::sample::select(words).prop_map(Value::from),
        "[a-z<é\\n]{0,4}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(keys), inner), 0..6).prop_map(|members| {
                let members = members
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(members.collect())
            }),
        ]
    })
}
