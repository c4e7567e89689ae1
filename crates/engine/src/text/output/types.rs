//! Turns the text of a parameter into a JSON value of a type that the schema allows.
//!
//! In the XML form every value is text. The function's JSON schema decides whether `3` is a number or a string.

use std::collections::HashSet;

use serde_json::Value;

use super::literal::{Syntax, compact, number_len, quote, string};
use super::references::combined;

/// The JSON types that a schema allows; none when it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Types {
    string: bool,
    number: bool,
    integer: bool,
    boolean: bool,
    null: bool,
    object: bool,
    array: bool,
}

impl Types {
    /// Strings only.
    pub(super) const STRING: Self = Self {
        string: true,
        number: false,
        integer: false,
        boolean: false,
        null: false,
        object: false,
        array: false,
    };

    /// The types that a schema allows. `root` is what its references point into. Each is followed once, however many
    /// there are, and in circles.
    pub(super) fn of(schema: &Value, root: &Value) -> Self {
        let mut types = Self::default();
        let mut followed = HashSet::new();
        let mut open = vec![schema];
        while let Some(schema) = open.pop() {
            types.allow(schema);
            open.extend(combined(schema, root, &mut followed));
        }
        types
    }

    /// Adds the types that a schema itself names.
    fn allow(&mut self, schema: &Value) {
        match schema.get("type") {
            Some(Value::String(name)) => self.allow_named(name),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                names.for_each(|name| self.allow_named(name));
            }
            _ => {
                self.object |= schema.get("properties").is_some();
                self.array |= schema.get("items").is_some();
            }
        }
        self.null |= schema.get("nullable") == Some(&Value::Bool(true));
        let listed = schema.get("enum").and_then(Value::as_array);
        for value in schema
            .get("const")
            .into_iter()
            .chain(listed.into_iter().flatten())
        {
            self.allow_named(match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "number",
                Value::Number(_) => "integer",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            });
        }
    }

    fn allow_named(&mut self, name: &str) {
        match name {
            "string" => self.string = true,
            "number" => self.number = true,
            "integer" => self.integer = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "object" => self.object = true,
            "array" => self.array = true,
            _ => {}
        }
    }

    /// Whether a value is its text, whatever the text.
    pub(super) fn is_string(self) -> bool {
        self == Self::STRING
    }

    /// The text as a JSON value of one of these types, or else as a string.
    ///
    /// A schema without types allows objects and arrays in JSON syntax, and strings.
    pub(super) fn read(self, text: &str) -> String {
        self.typed(text.trim()).unwrap_or_else(|| quote(text))
    }

    /// A value of the JSON form, made to fit these types where that changes nothing but how it is written.
    pub(super) fn fit(self, json: String) -> String {
        if let Some(text) = string(&json) {
            let typed = (!self.string && self != Self::default()).then(|| self.typed(text.trim()));
            return typed.flatten().unwrap_or(json);
        }
        match self.number(&json) {
            Some(number) => number,
            None => json,
        }
    }

    fn typed(self, text: &str) -> Option<String> {
        let unknown = self == Self::default();
        match (text, text.chars().next()?) {
            ("true" | "True", _) if self.boolean => Some("true".into()),
            ("false" | "False", _) if self.boolean => Some("false".into()),
            ("null" | "None", _) if self.null => Some("null".into()),
            (_, '{' | '[') if unknown => compact(text, Syntax::Json),
            (_, '{') if self.object => json_or_python(text),
            (_, '[') if self.array => json_or_python(text),
            (_, '(') if self.array => {
                compact(text, Syntax::Python).filter(|json| json.starts_with('['))
            }
            (_, '-' | '0'..='9') => self.number(text),
            _ => None,
        }
    }

    /// A number with the digits as written. An integer loses a fraction of zeros.
    fn number(self, text: &str) -> Option<String> {
        if text.is_empty() || number_len(text) != text.len() {
            return None;
        }
        let integer = || {
            let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
            if fraction.bytes().all(|byte| byte == b'0') && !digits.contains(['e', 'E']) {
                return Some(digits.to_owned());
            }
            let value: f64 = text.parse().ok()?;
            let exact = value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0;
            exact.then(|| format!("{value:.0}"))
        };
        if self.integer
            && let Some(integer) = integer()
        {
            return Some(integer);
        }
        self.number.then(|| text.to_owned())
    }
}

fn json_or_python(text: &str) -> Option<String> {
    compact(text, Syntax::Json).or_else(|| compact(text, Syntax::Python))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(schema: Value, text: &str) -> String {
        let root =
            json!({"$defs": {"Colour": {"enum": ["red", 7]}, "Loop": {"$ref": "#/$defs/Loop"}}});
        Types::of(&schema, &root).read(text)
    }

    #[test]
    fn text_is_read_as_the_schema_types() {
        for (schema, text, json) in [
            (json!({"type": "string"}), "3", r#""3""#),
            (json!({"type": "integer"}), "3", "3"),
            (json!({"type": "integer"}), "3.5", r#""3.5""#),
            (json!({"type": "integer"}), "5.0", "5"),
            (json!({"type": "integer"}), "5e2", "500"),
            (json!({"type": "number"}), "5", "5"),
            (json!({"type": "number"}), " -3.5e0", "-3.5e0"),
            (json!({"type": "number"}), "1e999", "1e999"),
            (json!({"type": "boolean"}), "true", "true"),
            (json!({"type": "boolean"}), "False", "false"),
            (json!({"type": "boolean"}), "yes", r#""yes""#),
            (json!({"type": "array"}), "[1, \"a\"]", r#"[1,"a"]"#),
            (json!({"type": "array"}), "['a', 'b']", r#"["a","b"]"#),
            (json!({"type": "array"}), "('a',)", r#"["a"]"#),
            (json!({"type": "object"}), "{'k': True}", r#"{"k":true}"#),
            (json!({"type": "object"}), "not json", r#""not json""#),
            (json!({"type": "object"}), "", r#""""#),
        ] {
            assert_eq!(read(schema.clone(), text), json, "{schema} {text}");
        }
    }

    #[test]
    fn untyped_text_is_json_object_or_array_or_string() {
        for (text, json) in [
            ("3", r#""3""#),
            ("{\"a\": [1]}", r#"{"a":[1]}"#),
            ("['a']", r#""['a']""#),
            ("true", r#""true""#),
        ] {
            assert_eq!(read(json!({}), text), json);
        }
    }

    #[test]
    fn large_integer_keeps_its_digits() {
        let id = "12345678901234567890123";
        assert_eq!(read(json!({"type": "integer"}), id), id);
        assert_eq!(
            read(json!({"type": "array"}), "[12345678901234567890123]"),
            format!("[{id}]")
        );
        assert_eq!(read(json!({"type": "integer"}), &format!("{id}.00")), id);
    }

    #[test]
    fn references_in_circles_are_followed_once() {
        let loops = vec![json!({"$ref": "#/$defs/l"}); 20_000];
        let root = json!({"$defs": {"l": {"anyOf": loops, "type": "integer"}}});
        let types = Types::of(&json!({"$ref": "#/$defs/l"}), &root);
        assert_eq!(types.read("7"), "7");
    }

    #[test]
    fn unions_and_references_are_followed() {
        let nullable = json!({"type": ["string", "null"]});
        assert_eq!(read(nullable.clone(), "None"), "null");
        assert_eq!(read(nullable, "nil"), r#""nil""#);
        let either = json!({"anyOf": [{"type": "integer"}, {"type": "array"}]});
        assert_eq!(read(either.clone(), "[1]"), "[1]");
        assert_eq!(read(either, "true"), r#""true""#);
        let all = json!({"allOf": [{"oneOf": [{"const": 1.5}, {"type": "null"}]}]});
        assert_eq!(read(all, "null"), "null");
        assert_eq!(read(json!({"$ref": "#/$defs/Colour"}), "7"), "7");
        assert_eq!(read(json!({"$ref": "#/$defs/Colour"}), "red"), r#""red""#);
        assert_eq!(read(json!({"$ref": "#/$defs/Loop"}), "7"), r#""7""#);
    }

    #[test]
    fn json_value_is_fitted_to_the_type() {
        let fit = |schema: Value, json: &str| Types::of(&schema, &schema).fit(json.into());
        assert_eq!(fit(json!({"type": "integer"}), "5.0"), "5");
        assert_eq!(fit(json!({"type": "integer"}), r#""5""#), "5");
        assert_eq!(fit(json!({"type": "array"}), r#""[1]""#), "[1]");
        assert_eq!(fit(json!({"type": "string"}), "5"), "5");
        assert_eq!(
            fit(json!({"type": ["string", "integer"]}), r#""5""#),
            r#""5""#
        );
        assert_eq!(fit(json!({}), r#""[1]""#), r#""[1]""#);
        assert_eq!(fit(json!({"type": "integer"}), r#""five""#), r#""five""#);
    }
}
