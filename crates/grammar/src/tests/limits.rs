//! What clients write is bounded: time, sizes, and messages that say why.

use std::cell::Cell;

use serde_json::{Map, Value, json};

use super::{answer, calls, feed, grammars, schema, tool};
use crate::locate::locate;
use crate::schema::Schema;
use crate::{Format, GrammarError, Grammars, Progress, Rules, Tool};

#[test]
fn cancelled_constraint_computes_nothing() {
    let grammars = grammars();
    let rules = answer(Format::Lark("start: e\ne: e e | e e e | /[a-z ]/".into()));
    let constraint = grammars.compile(&rules, false).unwrap().unwrap();
    let mut other = constraint.clone();
    let mut constraint = constraint;
    constraint.allowed().unwrap();
    constraint.cancellation().cancel();
    constraint.allowed().unwrap_err();
    constraint.accept(b'a'.into()).unwrap_err();
    // A clone is a constraint of its own.
    other.allowed().unwrap();
}

#[test]
fn cancelled_constraint_stays_cancelled_in_its_next_call() {
    let grammars = grammars();
    let mut optional = tool("f", json!({}));
    optional.strict = true;
    let rules = calls(vec![optional], false, true);
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    constraint.cancellation().cancel();
    constraint.accept(super::OPEN_CALL).unwrap();
    constraint.allowed().unwrap_err();
}

#[test]
fn path_of_a_constraint_is_that_of_the_rules_that_the_answer_follows() {
    let grammars = grammars();
    let path = |rules: &Rules, text: &str| {
        let mut constraint = grammars.compile(rules, false).unwrap().unwrap();
        assert!(feed(&mut constraint, text).is_some());
        constraint.path().to_owned()
    };
    let function = |name| {
        tool(
            name,
            json!({ "properties": { "n": { "type": "integer" } } }),
        )
    };
    let mut either = calls(vec![function("f")], false, true);
    either.answer = Some(schema(json!({ "type": "object" })));
    for (text, expected) in [
        ("", "schema"),
        ("{", "schema"),
        ("<tool_call>", "tools.f"),
        ("<tool_call>\n<function=f>\n", "tools.f"),
    ] {
        assert_eq!(path(&either, text), expected, "{text:?}");
    }
    let one = calls(vec![function("f")], true, true);
    assert_eq!(path(&one, ""), "tools.f");
    let several = calls(vec![function("f"), function("g")], true, true);
    assert_eq!(path(&several, ""), "tools");
    let optional = calls(vec![function("f")], false, true);
    assert_eq!(path(&optional, "Any <tool_call>"), "tools.f");
}

#[test]
fn place_of_an_error_is_searched_for_with_few_attempts() {
    let mut object: Map<String, Value> = (0..4_500).map(|i| (format!("x{i}"), json!(0))).collect();
    object.insert("minimum".into(), json!("x"));
    let properties: Map<String, Value> = (0..2_000)
        .map(|i| (format!("p{i}"), json!({"type": "string"})))
        .collect();
    object.insert("properties".into(), properties.into());
    let wide = Schema::check(&Value::Object(object), "schema", false).unwrap();
    let attempts = Cell::new(0);
    let compiles = |_: &str| {
        attempts.set(attempts.get() + 1);
        Ok(())
    };
    assert_eq!(locate(&wide, compiles, &|| true), None);
    assert!(attempts.get() <= 50, "{attempts:?}");
    attempts.set(0);
    assert_eq!(locate(&wide, compiles, &|| false), None);
    assert_eq!(attempts.get(), 0);
    let refuses = |_: &str| {
        attempts.set(attempts.get() + 1);
        Err("refused".to_owned())
    };
    locate(&wide, refuses, &|| true).unwrap();
    assert!(attempts.get() <= 50, "{attempts:?}");
}

#[test]
fn keyword_that_is_never_enforced_is_found_without_compiling() {
    let mut object: Map<String, Value> = (0..4_500).map(|i| (format!("x{i}"), json!(0))).collect();
    object.insert("not".into(), json!({"type": "string"}));
    let wide = Schema::check(&Value::Object(object), "schema", false).unwrap();
    let error = locate(&wide, |_| panic!("compiled"), &|| true).unwrap();
    assert_eq!(error.path(), Some("schema.not"));
}

#[test]
fn thousands_of_choices_are_accepted() {
    let grammars = grammars();
    let choices: Vec<String> = (0..5_000).map(|i| format!("choice {i}")).collect();
    let rules = answer(Format::Choice(choices));
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    assert_eq!(
        feed(&mut constraint, "choice 4999"),
        Some(Progress::Complete)
    );
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    assert_eq!(feed(&mut constraint, "choice 5"), Some(Progress::Continue));
    assert!(constraint.may_end());
    assert_eq!(feed(&mut constraint, "x"), None);
}

#[test]
fn hundreds_of_optional_properties_are_accepted() {
    let grammars = grammars();
    let properties: Map<String, Value> = (0..800)
        .map(|i| (format!("p{i}"), json!({"type": "integer"})))
        .collect();
    let object = json!({"type": "object", "properties": properties, "additionalProperties": false});
    let rules = answer(schema(object));
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    assert_eq!(
        feed(&mut constraint, r#"{"p3": 1, "p700": 2}"#),
        Some(Progress::Complete)
    );
}

#[test]
fn compiler_error_has_its_reason() {
    let grammars = grammars();
    let endless = "refers to itself without end";
    for (format, reason) in [
        (Format::Regex("(?=a)b".into()), "look"),
        (
            schema(json!({"type": "string", "pattern": "(?!x)y"})),
            "look",
        ),
        (schema(json!({"$ref": "#"})), endless),
        (Format::Lark("start: start".into()), endless),
    ] {
        let error = grammars
            .compile(&answer(format.clone()), false)
            .unwrap_err();
        assert!(error.to_string().contains(reason), "{format:?}: {error}");
        let path = error.path().unwrap();
        assert!(
            error.to_string().starts_with(&format!("`{path}`")),
            "{error}"
        );
    }
}

#[test]
fn excluded_bounds_are_relative() {
    let grammars = grammars();
    let ends = |bounds: &Value, text: &str| {
        let rules = answer(schema(bounds.clone()));
        let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
        match feed(&mut constraint, text) {
            Some(Progress::Continue) => constraint.may_end(),
            other => other.is_some(),
        }
    };
    for (bounds, inside, outside) in [
        (
            json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1e14}),
            "99999000000000",
            "100000000000000",
        ),
        (
            json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1e-7}),
            "0.00000005",
            "0.0000001",
        ),
        (
            json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1e-7}),
            "0.00000005",
            "0",
        ),
    ] {
        assert!(ends(&bounds, inside), "{bounds} refuses {inside}");
        assert!(!ends(&bounds, outside), "{bounds} accepts {outside}");
    }
    let empty = json!({"type": "number", "minimum": 1e14, "exclusiveMaximum": 1e14});
    let error = grammars.compile(&answer(schema(empty)), false).unwrap_err();
    assert_eq!(error.path(), Some("schema.exclusiveMaximum"), "{error}");
}

#[test]
fn lenient_schema_leaves_out_what_does_not_compile() {
    let grammars = grammars();
    for value in [
        json!({"type": "string", "pattern": "(?!x)y"}),
        json!({"$ref": "https://example.com/x.json"}),
        json!({"$ref": "#/$defs/missing"}),
        json!({"type": "object", "patternProperties": {"(?!x)y": {"type": "integer"}}}),
        json!({"type": "array", "items": {"type": "string", "pattern": "(?!x)y"}}),
        json!({"type": "number", "minimum": 3, "exclusiveMaximum": 3}),
    ] {
        let lenient = Format::Schema {
            schema: value.clone(),
            lenient: true,
            path: "schema".into(),
        };
        grammars
            .compile(&answer(lenient), false)
            .unwrap_or_else(|error| panic!("{value}: {error}"));
        let loose = Tool {
            strict: false,
            ..tool("f", json!({"properties": {"a": value}}))
        };
        let strict = tool("g", json!({"properties": {"n": {"type": "integer"}}}));
        let rules = calls(vec![loose, strict], true, false);
        grammars
            .compile(&rules, false)
            .unwrap_or_else(|error| panic!("{value}: {error}"));
    }
}

#[test]
fn schema_of_a_loose_tool_that_accepts_nothing_is_left_out() {
    let grammars = grammars();
    let never =
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 1});
    let loose = Tool {
        strict: false,
        ..tool("f", json!({"properties": {"a": never}, "required": ["a"]}))
    };
    let rules = calls(vec![loose.clone()], true, false);
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    let call =
        "<tool_call>\n<function=f>\n<parameter=a>\nany\n</parameter>\n</function>\n</tool_call>";
    assert_eq!(feed(&mut constraint, call), Some(Progress::Complete));
    let strict = Tool {
        strict: true,
        ..loose
    };
    let error = grammars
        .compile(&calls(vec![strict], true, false), false)
        .unwrap_err();
    assert!(matches!(error, GrammarError::Refused { .. }), "{error}");
}

/// Calls of so many functions that are not strict. The first one's schema accepts nothing.
fn loose_calls(count: usize) -> Rules {
    let never =
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 1});
    let loose = |index: usize| Tool {
        strict: false,
        ..tool(
            &format!("f{index}"),
            match index {
                0 => json!({"properties": {"a": never}, "required": ["a"]}),
                _ => json!({"properties": {"a": {"type": "integer"}}, "required": ["a"]}),
            },
        )
    };
    calls((0..count).map(loose).collect(), true, false)
}

/// Whether the schema of one of them is enforced.
fn is_enforced(grammars: &Grammars, rules: &Rules, index: usize) -> bool {
    let mut constraint = grammars.compile(rules, false).unwrap().unwrap();
    let call = format!(
        "<tool_call>\n<function=f{index}>\n<parameter=a>\nany\n</parameter>\n</function>\n</tool_call>"
    );
    feed(&mut constraint, &call).is_none()
}

#[test]
fn few_loose_tools_are_compiled_alone_to_find_those_that_are_refused() {
    let (grammars, rules) = (grammars(), loose_calls(60));
    let enforced = [0, 1, 59].map(|index| is_enforced(&grammars, &rules, index));
    assert_eq!(enforced, [false, true, false]);
}

#[test]
fn search_for_refused_tools_that_is_given_up_is_not_kept() {
    let (grammars, rules) = (grammars(), loose_calls(2));
    let given_up = grammars.compile_while(&rules, false, &|| false);
    given_up.unwrap_err();
    assert!(is_enforced(&grammars, &rules, 1));
}
