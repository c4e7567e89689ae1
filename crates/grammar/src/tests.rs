//! Random walks: whatever is allowed at each step must be an answer in the end.

mod limits;
mod strict;
mod suite;

use serde_json::{Value, json};

use super::*;

const END: u32 = 256;
const OPEN_CALL: u32 = 258;
const CLOSE_CALL: u32 = 259;

/// Every byte, the added tokens, and some tokens of several bytes.
fn vocabulary() -> Vocabulary {
    let text = |bytes: &[u8]| TokenBytes {
        bytes: bytes.to_vec(),
        added: false,
    };
    let added = |bytes: &str| TokenBytes {
        bytes: bytes.into(),
        added: true,
    };
    let mut tokens: Vec<_> = (0..=255).map(|byte| text(&[byte])).collect();
    tokens.extend(["<|im_end|>", "</think>", "<tool_call>", "</tool_call>"].map(added));
    let longer = [
        "\n\n",
        "\",",
        "\": ",
        "{\"",
        "\"}",
        "</",
        "think",
        ">x",
        ">\n",
        "Rome",
        "parameter",
        "\n</",
        "\n\n{\"",
        "\n\nx",
        "function",
    ];
    tokens.extend(longer.map(|t| text(t.as_bytes())));
    Vocabulary {
        tokens,
        ends: vec![END],
    }
}

fn grammars() -> Grammars {
    Grammars::new(&vocabulary()).unwrap()
}

/// A generator of numbers (xorshift).
struct XorShift(u64);

impl XorShift {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// A random answer; none if it did not end within `limit` tokens.
fn walk(constraint: &mut Constraint, random: &mut XorShift, limit: usize) -> Option<String> {
    let vocabulary = vocabulary();
    let mut bytes = Vec::new();
    for step in 0..limit {
        let mask = match constraint.allowed().unwrap() {
            Allowed::All => return Some(String::from_utf8_lossy(&bytes).into_owned()),
            Allowed::Only(mask) => mask,
        };
        let ids: Vec<u32> = (0..vocabulary.tokens.len() as u32)
            .filter(|&id| mask.allows(id))
            .collect();
        assert!(
            !ids.is_empty(),
            "nothing is allowed after {:?}",
            String::from_utf8_lossy(&bytes)
        );
        // Walks that have become long prefer what closes.
        let closing =
            |id: &&u32| b"\"}]<\n/".iter().any(|byte| **id == u32::from(*byte)) || **id >= 256;
        let closers: Vec<u32> = ids.iter().filter(closing).copied().collect();
        let from = if step > 40 && !closers.is_empty() && random.below(3) > 0 {
            &closers
        } else {
            &ids
        };
        let id = from[random.below(from.len())];
        if id == END {
            return Some(String::from_utf8(bytes).unwrap());
        }
        let token = &vocabulary.tokens[id as usize];
        bytes.extend(&token.bytes);
        if constraint.accept(id).unwrap() == Progress::Complete {
            return Some(String::from_utf8(bytes).unwrap());
        }
    }
    None
}

fn feed(constraint: &mut Constraint, text: &str) -> Option<Progress> {
    let vocabulary = vocabulary();
    let mut rest = text.as_bytes();
    let mut last = Progress::Continue;
    while !rest.is_empty() {
        let added =
            (END..=CLOSE_CALL).find(|&id| rest.starts_with(&vocabulary.tokens[id as usize].bytes));
        let id = added.unwrap_or(u32::from(rest[0]));
        if let Allowed::Only(mask) = constraint.allowed().unwrap()
            && !mask.allows(id)
        {
            return None;
        }
        let bytes = &vocabulary.tokens[id as usize].bytes;
        last = constraint.accept(id).unwrap();
        rest = &rest[bytes.len()..];
    }
    Some(last)
}

fn answer(format: Format) -> Rules {
    Rules {
        answer: Some(format),
        calls: None,
    }
}

fn schema(schema: Value) -> Format {
    Format::Schema {
        schema,
        lenient: false,
        path: "schema".into(),
    }
}

fn tool(name: &str, parameters: Value) -> Tool {
    Tool {
        name: name.into(),
        parameters: Some(parameters),
        strict: true,
        path: format!("tools.{name}"),
    }
}

fn calls(tools: Vec<Tool>, required: bool, parallel: bool) -> Rules {
    Rules {
        answer: None,
        calls: Some(CallRules {
            tools,
            required,
            parallel,
            subset: false,
        }),
    }
}

#[test]
fn schema_walked_at_random_gives_json_of_the_schema() {
    let grammars = grammars();
    let rules = answer(schema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "size": {"type": "integer", "minimum": 0, "maximum": 99},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        },
        "required": ["name", "size", "tags"],
        "additionalProperties": false,
    })));
    let mut random = XorShift(7);
    let mut ended = 0;
    for _ in 0..60 {
        let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
        let Some(text) = walk(&mut constraint, &mut random, 400) else {
            continue;
        };
        ended += 1;
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(value.as_object().unwrap().len(), 3);
        assert!(value["name"].as_str().unwrap().chars().count() <= 8);
        assert!(value["size"].as_u64().unwrap() <= 99);
        assert!(
            value["tags"]
                .as_array()
                .unwrap()
                .iter()
                .all(|tag| tag == "a" || tag == "b")
        );
    }
    assert!(ended > 40, "{ended}");
}

#[test]
fn reasoning_is_free_until_its_end_and_breaks_may_follow() {
    let grammars = grammars();
    let rules = answer(Format::Choice(vec!["yes".into(), "no".into()]));
    let mut constraint = grammars.compile(&rules, true).unwrap().unwrap();
    assert!(feed(&mut constraint, "is it {so}? </thin").is_some());
    let Allowed::Only(mask) = constraint.allowed().unwrap() else {
        panic!("the end of the sequence is allowed")
    };
    assert!(!mask.allows(END));
    assert!(mask.allows(b'x'.into()));
    assert_eq!(
        feed(&mut constraint, "k</think>\n\nye"),
        Some(Progress::Continue)
    );
    assert_eq!(feed(&mut constraint, "s"), Some(Progress::Complete));
}

#[test]
fn token_of_breaks_and_answer_behind_reasoning_is_allowed_if_the_answer_is() {
    let vocabulary = vocabulary();
    let id = |text: &str| {
        let is = |token: &TokenBytes| token.bytes == text.as_bytes();
        vocabulary.tokens.iter().position(is).unwrap() as u32
    };
    let grammars = grammars();
    let form =
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let rules = answer(schema(form));
    let mut constraint = grammars.compile(&rules, true).unwrap().unwrap();
    feed(&mut constraint, "so</think>").unwrap();
    let Allowed::Only(mask) = constraint.allowed().unwrap() else {
        panic!("every token is allowed")
    };
    assert!(mask.allows(id("\n\n")) && mask.allows(id("\n\n{\"")) && mask.allows(id("{\"")));
    assert!(!mask.allows(id("\n\nx")) && !mask.allows(id("\n</")));
    constraint.accept(id("\n\n{\"")).unwrap();
    assert_eq!(feed(&mut constraint, "a\":7}"), Some(Progress::Complete));
}

#[test]
fn reasoning_closed_in_pieces_starts_the_answer() {
    let vocabulary = vocabulary();
    let overshoot = vocabulary
        .tokens
        .iter()
        .position(|t| t.bytes == b">x")
        .unwrap() as u32;
    let grammars = grammars();
    let rules = answer(Format::Choice(vec!["xyz".into()]));
    let mut constraint = grammars.compile(&rules, true).unwrap().unwrap();
    for text in ["<", "/", "t", "h", "i", "n", "k"] {
        constraint.accept(text.as_bytes()[0].into()).unwrap();
    }
    let Allowed::Only(mask) = constraint.allowed().unwrap() else {
        panic!()
    };
    assert!(mask.allows(b'>'.into()) && !mask.allows(overshoot));
    constraint.accept(b'>'.into()).unwrap();
    assert_eq!(feed(&mut constraint, "a"), None);
    assert_eq!(feed(&mut constraint, "\n\nxyz"), Some(Progress::Complete));
}

#[test]
fn regex_choice_and_grammar_accept_only_their_texts() {
    let grammars = grammars();
    for (format, good, bad) in [
        (Format::Regex("[0-9]{3}/x".into()), "123/x", "12a"),
        (
            Format::Choice(vec!["a \"b\"".into(), "c\n".into()]),
            "a \"b\"",
            "b",
        ),
        (Format::Lark("start: \"x\" y\ny: \"z\"".into()), "xz", "xy"),
        (Format::Json, "{}", "[]"),
    ] {
        let rules = answer(format);
        let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
        assert_eq!(
            feed(&mut constraint, good),
            Some(Progress::Complete),
            "{good}"
        );
        let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
        assert_eq!(feed(&mut constraint, bad), None, "{bad}");
    }
}

#[test]
fn required_call_walked_at_random_has_its_parameters() {
    let grammars = grammars();
    let tools = vec![
        tool(
            "weather",
            json!({
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "minimum": 1, "maximum": 9},
                    "unit": {"enum": ["C", "F"]},
                    "code": {"type": "string", "pattern": "^[A-Z]{2}$", "maxLength": 5},
                },
                "required": ["unit", "code"],
            }),
        ),
        tool("now", json!({"type": "object", "properties": {}})),
    ];
    let rules = calls(tools, true, true);
    let mut random = XorShift(3);
    let mut ended = 0;
    for _ in 0..60 {
        let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
        let Some(text) = walk(&mut constraint, &mut random, 600) else {
            continue;
        };
        ended += 1;
        assert!(text.starts_with("<tool_call>\n<function="), "{text}");
        assert!(
            text.trim_end().ends_with("</function>\n</tool_call>"),
            "{text}"
        );
        for call in text.split("<tool_call>\n<function=weather>").skip(1) {
            let call = call.split("</tool_call>").next().unwrap();
            assert!(
                call.contains("<parameter=unit>\nC\n</parameter>")
                    || call.contains("<parameter=unit>\nF\n</parameter>"),
                "{call}"
            );
            assert!(call.contains("<parameter=code>\n"), "{call}");
        }
    }
    assert!(ended > 15, "{ended}");
}

#[test]
fn optional_strict_call_is_constrained_only_inside_its_tags() {
    let grammars = grammars();
    let rules = calls(
        vec![tool(
            "f",
            json!({"properties": {"n": {"type": "integer"}}, "required": ["n"]}),
        )],
        false,
        true,
    );
    let call =
        "<tool_call>\n<function=f>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>";
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    assert_eq!(constraint.allowed().unwrap(), Allowed::All);
    assert_eq!(
        feed(&mut constraint, &format!("Any {call} text {call}")),
        Some(Progress::Continue)
    );
    assert_eq!(constraint.allowed().unwrap(), Allowed::All);
    assert_eq!(feed(&mut constraint, "<tool_call>\n<function=g"), None);

    let rules = calls(
        vec![tool("f", json!({"properties": {"n": {"type": "integer"}}}))],
        false,
        false,
    );
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    assert_eq!(
        feed(&mut constraint, &format!("Any {call}")),
        Some(Progress::Complete)
    );
}

#[test]
fn call_in_the_reasoning_ends_it() {
    let grammars = grammars();
    let rules = calls(vec![tool("f", json!({}))], true, false);
    let mut constraint = grammars.compile(&rules, true).unwrap().unwrap();
    assert_eq!(
        feed(
            &mut constraint,
            "hm <tool_call>\n<function=f>\n</function>\n</tool_call>"
        ),
        Some(Progress::Complete)
    );
}

#[test]
fn string_value_may_hold_tags_in_its_lines() {
    let grammars = grammars();
    let rules = calls(
        vec![tool("f", json!({"properties": {"s": {"type": "string"}}}))],
        true,
        false,
    );
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    let call = "<tool_call>\n<function=f>\n<parameter=s>\na </parameter> b\n</param\n</parameter>\n</function>\n</tool_call>";
    assert_eq!(feed(&mut constraint, call), Some(Progress::Complete));
}

#[test]
fn unsupported_keyword_is_named_with_its_path() {
    let grammars = grammars();
    let cases = [
        (
            json!({"properties": {"tags": {"type": "array", "uniqueItems": true}}}),
            "schema.properties.tags.uniqueItems",
        ),
        (
            json!({"$defs": {"x": {"not": {"type": "string"}}}, "$ref": "#/$defs/x"}),
            "schema.$defs.x.not",
        ),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "string", "pattern": "(?=a)b"}]}),
            "schema.anyOf[1].pattern",
        ),
        (
            json!({"items": {"if": {}, "then": {"type": "null"}}}),
            "schema.items.if",
        ),
        (
            json!({"properties": {"a": {"$ref": "https://example.com/x.json"}}}),
            "schema.properties.a.$ref",
        ),
        (
            json!({"properties": {"a": {"type": "strin"}}}),
            "schema.properties.a.type",
        ),
    ];
    for (wrong, path) in cases {
        let error = grammars
            .compile(&answer(schema(wrong.clone())), false)
            .unwrap_err();
        assert_eq!(error.path(), Some(path), "{wrong}: {error}");
    }
}

#[test]
fn assertion_without_effect_is_accepted() {
    let grammars = grammars();
    for fine in [
        json!({"type": "array", "uniqueItems": false, "maxItems": 2.0}),
        json!({"type": "string", "format": "password"}),
        json!({"type": "object", "propertyNames": {"type": "string"}}),
        json!(true),
    ] {
        grammars
            .compile(&answer(schema(fine.clone())), false)
            .unwrap_or_else(|e| panic!("{fine}: {e}"));
    }
}

#[test]
fn huge_or_deep_schema_is_refused() {
    let grammars = grammars();
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({"items": deep});
    }
    let wide: serde_json::Map<String, Value> = (0..20_000)
        .map(|i| (format!("property{i}"), json!({"type": "string"})))
        .collect();
    for schema_value in [deep, json!({"properties": wide})] {
        let error = grammars
            .compile(&answer(schema(schema_value)), false)
            .unwrap_err();
        assert!(matches!(error, GrammarError::TooComplex { .. }), "{error}");
    }
}

#[test]
fn excluded_bound_is_not_accepted() {
    let grammars = grammars();
    for (bounds, excluded, inside) in [
        (
            json!({"type": "number", "minimum": -3.5, "exclusiveMaximum": -3.0}),
            "-3",
            "-3.2",
        ),
        (json!({"type": "number", "exclusiveMinimum": 0}), "0", "0.5"),
        (json!({"type": "number", "exclusiveMinimum": 0}), "0.0", "7"),
        (
            json!({"type": "number", "exclusiveMinimum": 0, "maximum": 2.5}),
            "0",
            "2.5",
        ),
        (json!({"type": "integer", "exclusiveMinimum": 0}), "0", "1"),
        (
            json!({"type": "integer", "exclusiveMinimum": 0.0, "exclusiveMaximum": 2.0}),
            "2",
            "1",
        ),
    ] {
        let rules = answer(schema(json!([bounds])[0].clone()));
        let ends = |text: &str| {
            let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
            match feed(&mut constraint, text) {
                Some(Progress::Continue) => constraint.may_end(),
                other => other.is_some(),
            }
        };
        assert!(!ends(excluded), "{bounds} accepts {excluded}");
        assert!(ends(inside), "{bounds} refuses {inside}");
    }
}
