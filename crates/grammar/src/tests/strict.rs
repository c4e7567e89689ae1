//! The arguments of strict functions: each keyword is enforced or refused, and a value is read as it was meant.

use serde_json::{Value, json};

use super::{calls, feed, grammars, tool};
use crate::{GrammarError, Progress};

/// The whole call with parameters written like this.
fn call(parameters: &[(&str, &str)]) -> String {
    let mut text = "<tool_call>\n<function=f>\n".to_owned();
    for (name, value) in parameters {
        text += &format!("<parameter={name}>\n{value}\n</parameter>\n");
    }
    text + "</function>\n</tool_call>"
}

/// Whether a strict function with this schema may be called like this.
fn accepts(schema: &Value, parameters: &[(&str, &str)]) -> Result<bool, GrammarError> {
    let rules = calls(vec![tool("f", schema.clone())], true, false);
    let mut constraint = grammars().compile(&rules, false)?.unwrap();
    Ok(feed(&mut constraint, &call(parameters)) == Some(Progress::Complete))
}

/// The schema of arguments with one property.
fn one(property: Value) -> Value {
    json!({"type": "object", "properties": {"s": property}, "required": ["s"], "additionalProperties": false})
}

fn accepts_value(property: &Value, text: &str) -> bool {
    let accepted = accepts(&one(property.clone()), &[("s", text)]);
    accepted.unwrap_or_else(|error| panic!("{property}: {error}"))
}

/// The path of the refusal.
fn refusal(schema: &Value) -> String {
    match accepts(schema, &[]) {
        Err(error) => error.path().unwrap().to_owned(),
        Ok(_) => panic!("{schema} is accepted"),
    }
}

#[test]
fn constrained_string_ends_before_the_next_parameter() {
    for city in [
        json!({"type": "string"}),
        json!({"type": "string", "minLength": 1}),
        json!({"type": "string", "maxLength": 40}),
        json!({"type": "string", "minLength": 1, "maxLength": 100}),
        json!({"type": "string", "maxLength": 2000}),
        json!({"type": "string", "pattern": "o"}),
        json!({"type": "string", "pattern": "^[^x]*$"}),
    ] {
        let schema = json!({
            "type": "object",
            "properties": {"city": city, "days": {"type": "integer"}},
            "required": ["city", "days"],
        });
        let accepted = accepts(&schema, &[("city", "Rome"), ("days", "3")]);
        assert_eq!(accepted, Ok(true), "{city}");
        assert_eq!(
            accepts(&schema, &[("city", "Rome"), ("days", "x")]),
            Ok(false),
            "{city}"
        );
    }
    let short = json!({"type": "string", "maxLength": 6});
    assert!(accepts_value(&short, "a\n</b>") && !accepts_value(&short, "a\n</bc>"));
}

#[test]
fn string_is_enforced_wherever_its_keywords_stand() {
    let color = json!({"enum": ["red", "blue"], "type": "string"});
    for property in [
        color.clone(),
        json!({"type": "string", "allOf": [{"enum": ["red", "blue"]}]}),
        json!({"allOf": [color], "default": "red"}),
        json!({"anyOf": [{"const": "red"}, {"const": "blue"}], "maxLength": 4}),
        json!({"oneOf": [{"const": "red"}, {"const": "blue"}]}),
        json!({"enum": ["red", "blue", "x"], "minLength": 3}),
        json!({"type": "string", "pattern": "^(red|blue)$", "maxLength": 4}),
        json!({"type": "string", "pattern": "^red$|^blue$"}),
        json!({"type": ["string"], "const": "red", "anyOf": [true]}),
    ] {
        assert!(accepts_value(&property, "red"), "{property}");
        for wrong in ["green", "x", "\"red\"", "redd", ""] {
            assert!(
                !accepts_value(&property, wrong),
                "{property} accepts {wrong}"
            );
        }
    }
    let schema = json!({
        "properties": {"s": {"allOf": [{"$ref": "#/$defs/Color"}], "default": "red"}, "t": {"$ref": "#/$defs/Color", "maxLength": 3}},
        "required": ["s", "t"],
        "$defs": {"Color": {"enum": ["red", "blue"], "title": "Color", "type": "string"}},
    });
    assert_eq!(accepts(&schema, &[("s", "blue"), ("t", "red")]), Ok(true));
    assert_eq!(accepts(&schema, &[("s", "green"), ("t", "red")]), Ok(false));
    assert_eq!(accepts(&schema, &[("s", "red"), ("t", "blue")]), Ok(false));
    assert_eq!(
        accepts(&schema, &[("s", "\"blue\""), ("t", "red")]),
        Ok(false)
    );
}

/// What is expected of a keyword at a place.
enum KeywordOutcome {
    /// It is enforced: this text is accepted, that one is not.
    Enforced(&'static str, &'static str),
    /// It is refused.
    Refused,
}

use KeywordOutcome::{Enforced, Refused};

#[test]
fn asserting_keyword_of_the_arguments_is_enforced_or_refused() {
    let string = json!({"type": "string"});
    for (keyword, value) in [
        ("not", json!({"required": ["s"]})),
        ("if", json!({"required": ["s"]})),
        ("anyOf", json!([{"required": ["s"]}])),
        ("oneOf", json!([{"required": ["s"]}, {"required": ["t"]}])),
        ("enum", json!([{"s": "a"}])),
        ("const", json!({"s": "a"})),
        ("dependentRequired", json!({"s": ["t"]})),
        ("dependentSchemas", json!({"s": {"required": ["t"]}})),
        ("propertyNames", json!({"maxLength": 1})),
        ("patternProperties", json!({"^s": {"maxLength": 3}})),
        ("minProperties", json!(2)),
        ("maxProperties", json!(1)),
        ("$dynamicRef", json!("#x")),
        ("$ref", json!("#/$defs/missing")),
        ("type", json!("array")),
        ("type", json!("string")),
    ] {
        let mut schema =
            json!({"type": "object", "properties": {"s": string, "t": string}, "required": ["s"]});
        schema[keyword] = value;
        assert_eq!(refusal(&schema), format!("tools.f.{keyword}"), "{schema}");
        // Inside of `allOf` as well.
        let inside = json!({"allOf": [schema]});
        if keyword != "$ref" {
            assert_eq!(
                refusal(&inside),
                format!("tools.f.allOf[0].{keyword}"),
                "{inside}"
            );
        }
    }
    for (keyword, value) in [
        ("minProperties", json!(1)),
        ("maxProperties", json!(2)),
        ("type", json!(["object", "null"])),
        ("dependentRequired", json!({})),
        ("unevaluatedProperties", json!(false)),
        ("additionalProperties", json!(false)),
        ("minLength", json!(7)),
        ("items", json!(false)),
        ("allOf", json!([{"required": ["s"]}])),
    ] {
        let mut schema =
            json!({"type": "object", "properties": {"s": string, "t": string}, "required": ["s"]});
        schema[keyword] = value;
        assert_eq!(accepts(&schema, &[("s", "x")]), Ok(true), "{schema}");
        assert_eq!(accepts(&schema, &[("t", "x")]), Ok(false), "{schema}");
    }
    assert_eq!(refusal(&json!(false)), "tools.f");
    let never = json!({"properties": {"s": false}, "required": ["s"]});
    assert_eq!(refusal(&never), "tools.f.required");
    let never = json!({"properties": {"s": false, "t": string}});
    assert_eq!(accepts(&never, &[("s", "x")]), Ok(false));
    assert_eq!(accepts(&never, &[("t", "x")]), Ok(true));
}

#[test]
fn asserting_keyword_of_a_string_is_enforced_or_refused() {
    for (keyword, value, expected) in [
        ("enum", json!(["a", "b"]), Enforced("a", "c")),
        ("const", json!("a"), Enforced("a", "b")),
        ("minLength", json!(2), Enforced("aa", "a")),
        ("maxLength", json!(2), Enforced("aa", "aaa")),
        ("pattern", json!("^a+$"), Enforced("aa", "b")),
        ("format", json!("date"), Enforced("2024-02-03", "2024")),
        ("allOf", json!([{"maxLength": 2}]), Enforced("aa", "aaa")),
        (
            "anyOf",
            json!([{"const": "a"}, {"type": "integer"}]),
            Enforced("a", "b"),
        ),
        (
            "oneOf",
            json!([{"const": "a"}, {"const": "b"}]),
            Enforced("a", "c"),
        ),
        ("$ref", json!("#/$defs/short"), Enforced("aa", "aaa")),
        ("not", json!({"const": "a"}), Refused),
        ("if", json!({"const": "a"}), Refused),
        (
            "oneOf",
            json!([{"maxLength": 3}, {"minLength": 2}]),
            Refused,
        ),
        ("pattern", json!("(?!a)b"), Refused),
        ("$ref", json!("#/$defs/missing"), Refused),
        ("$dynamicRef", json!("#x"), Refused),
        // Those of other types assert nothing.
        ("minimum", json!(3), Enforced("1", "\n</parameter>")),
        ("required", json!(["x"]), Enforced("1", "\n</parameter>")),
        ("uniqueItems", json!(false), Enforced("1", "\n</parameter>")),
    ] {
        let mut property = json!({"type": "string"});
        property[keyword] = value;
        let mut schema = one(property.clone());
        schema["$defs"] = json!({"short": {"maxLength": 2}});
        match expected {
            Enforced(right, wrong) => {
                assert_eq!(
                    accepts(&schema, &[("s", right)]),
                    Ok(true),
                    "{property} {right}"
                );
                assert_eq!(
                    accepts(&schema, &[("s", wrong)]),
                    Ok(false),
                    "{property} {wrong}"
                );
            }
            Refused => {
                let path = format!("tools.f.properties.s.{keyword}");
                assert_eq!(refusal(&schema), path, "{property}");
            }
        }
    }
}

#[test]
fn asserting_keyword_inside_a_value_is_enforced_or_refused() {
    for (place, inner, expected) in [
        (
            "",
            json!({"type": "integer", "minimum": 3}),
            Enforced("3", "2"),
        ),
        (
            "",
            json!({"type": "integer", "maximum": 3}),
            Enforced("3", "4"),
        ),
        (
            "",
            json!({"type": "integer", "exclusiveMaximum": 3}),
            Enforced("2", "3"),
        ),
        (
            "",
            json!({"type": "integer", "exclusiveMinimum": 3}),
            Enforced("4", "3"),
        ),
        (
            "",
            json!({"type": "integer", "multipleOf": 3}),
            Enforced("6", "7"),
        ),
        (
            "",
            json!({"type": "integer", "enum": [1, 2]}),
            Enforced("2", "3"),
        ),
        (
            "",
            json!({"type": "array", "minItems": 1}),
            Enforced("[1]", "[]"),
        ),
        (
            "",
            json!({"type": "array", "maxItems": 1}),
            Enforced("[1]", "[1,2]"),
        ),
        (
            "",
            json!({"type": "array", "items": {"type": "null"}}),
            Enforced("[null]", "[1]"),
        ),
        (
            "",
            json!({"type": "array", "prefixItems": [{"type": "null"}]}),
            Enforced("[null]", "[1]"),
        ),
        (
            "",
            json!({"type": "object", "required": ["a"]}),
            Enforced("{\"a\": 1}", "{}"),
        ),
        (
            "",
            json!({"type": "object", "properties": {"a": {"type": "null"}}}),
            Enforced("{\"a\": null}", "{\"a\": 1}"),
        ),
        (
            "",
            json!({"type": "object", "additionalProperties": false}),
            Enforced("{}", "{\"a\": 1}"),
        ),
        (
            "",
            json!({"type": "object", "patternProperties": {"^a": {"type": "null"}}}),
            Enforced("{\"a\": null}", "{\"a\": 1}"),
        ),
        (
            "",
            json!({"type": "object", "properties": {"a": {"maxLength": 1, "type": "string"}}}),
            Enforced("{\"a\": \"x\"}", "{\"a\": \"xx\"}"),
        ),
        (
            ".not",
            json!({"type": "integer", "not": {"const": 1}}),
            Refused,
        ),
        (
            ".if",
            json!({"type": "integer", "if": {"const": 1}, "then": false}),
            Refused,
        ),
        (
            ".uniqueItems",
            json!({"type": "array", "uniqueItems": true}),
            Refused,
        ),
        (
            ".contains",
            json!({"type": "array", "contains": {"const": 1}}),
            Refused,
        ),
        (
            ".unevaluatedItems",
            json!({"type": "array", "unevaluatedItems": false}),
            Refused,
        ),
        (
            ".propertyNames",
            json!({"type": "object", "propertyNames": {"maxLength": 1}}),
            Refused,
        ),
        (
            ".dependentRequired",
            json!({"type": "object", "dependentRequired": {"a": ["b"]}}),
            Refused,
        ),
        (
            ".dependentSchemas",
            json!({"type": "object", "dependentSchemas": {"a": false}}),
            Refused,
        ),
        (
            ".unevaluatedProperties",
            json!({"type": "object", "unevaluatedProperties": false}),
            Refused,
        ),
        (
            ".properties.a.not",
            json!({"type": "object", "properties": {"a": {"not": {"const": "x"}}}}),
            Refused,
        ),
    ] {
        match expected {
            Enforced(right, wrong) => {
                assert!(accepts_value(&inner, right), "{inner} refuses {right}");
                assert!(!accepts_value(&inner, wrong), "{inner} accepts {wrong}");
            }
            Refused => {
                let path = format!("tools.f.properties.s{place}");
                assert_eq!(refusal(&one(inner.clone())), path, "{inner}");
            }
        }
    }
}

#[test]
fn string_beside_other_types_is_not_read_as_one_that_is_refused() {
    for (property, right, wrong) in [
        // Any text is fine.
        (
            json!({"type": ["string", "null"]}),
            vec!["a", "null", "5"],
            vec![],
        ),
        (
            json!({"type": ["string", "integer"]}),
            vec!["a", "5", "5.5", "5x"],
            vec![],
        ),
        (json!({}), vec!["a", "5", "{\"a\": 1}", "{a"], vec![]),
        // A word is a part of the terminal.
        (
            json!({"anyOf": [{"type": "string", "minLength": 3}, {"type": "null"}]}),
            vec!["null", "nullable", "abc"],
            vec!["ab"],
        ),
        (
            json!({"anyOf": [{"type": "string", "maxLength": 5}, {"const": false}]}),
            vec!["false", "falsy", "t"],
            vec!["true", "abcdef"],
        ),
        (
            json!({"enum": ["1", "2", 3]}),
            vec!["1", "2", "3"],
            vec!["4"],
        ),
        (
            json!({"anyOf": [{"type": "string", "pattern": "^5$"}, {"type": "integer", "minimum": 10}]}),
            vec!["10", "77"],
            vec!["5", "9"],
        ),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 10}]}),
            vec!["10", "a5"],
            vec!["5", " 5"],
        ),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "object", "required": ["a"]}]}),
            vec!["text", "{\"a\": 1}", "[x"],
            vec!["{}", " {}", "{'b': 1}"],
        ),
        (
            json!({"anyOf": [{"type": "string", "minLength": 2}, {"type": "array", "items": {"type": "null"}}]}),
            vec!["text", "[null]"],
            vec!["[1]", "(1,)", "t"],
        ),
    ] {
        for text in right {
            assert!(accepts_value(&property, text), "{property} refuses {text}");
        }
        for text in wrong {
            assert!(!accepts_value(&property, text), "{property} accepts {text}");
        }
    }
}

#[test]
fn reference_to_the_whole_schema_means_the_whole_schema() {
    let schema = json!({
        "type": "object",
        "properties": {"n": {"type": "integer"}, "list": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["n"],
        "additionalProperties": false,
    });
    let list = "[{\"n\": 1}, {\"n\": 2, \"list\": []}]";
    assert_eq!(accepts(&schema, &[("n", "1"), ("list", list)]), Ok(true));
    assert_eq!(accepts(&schema, &[("n", "1"), ("list", "[[]]")]), Ok(false));
}

#[test]
fn call_that_is_spelled_in_pieces_is_constrained() {
    let grammars = grammars();
    let strict = tool(
        "f",
        json!({"properties": {"n": {"type": "integer"}}, "required": ["n"]}),
    );
    let rules = calls(vec![strict], false, true);
    for (thinking, before) in [(false, "so "), (true, "hm "), (true, "hm</think>\n\n")] {
        for (value, expected) in [("3", Some(Progress::Continue)), ("x", None)] {
            let mut constraint = grammars.compile(&rules, thinking).unwrap().unwrap();
            feed(&mut constraint, before).unwrap();
            for byte in b"<tool_call>" {
                constraint.accept(u32::from(*byte)).unwrap();
            }
            let rest = call(&[("n", value)]);
            let rest = rest.strip_prefix("<tool_call>").unwrap();
            assert_eq!(feed(&mut constraint, rest), expected, "{before:?} {value}");
        }
    }
}

#[test]
fn subset_of_the_functions_is_enforced() {
    let grammars = grammars();
    let mut loose = tool("f", json!({}));
    loose.strict = false;
    let mut rules = calls(vec![loose], false, true);
    assert!(grammars.compile(&rules, false).unwrap().is_none());
    if let Some(calls) = &mut rules.calls {
        calls.subset = true;
    }
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    assert!(feed(&mut constraint, "text <tool_call>\n<function=f>\n").is_some());
    let mut constraint = grammars.compile(&rules, false).unwrap().unwrap();
    assert_eq!(feed(&mut constraint, "text <tool_call>\n<function=g"), None);
}
