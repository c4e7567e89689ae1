//! The types of a call's arguments.
//!
//! In the XML form every value is text; whether `3` is a number or a string is for the tool's JSON schema to say.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::block::Parameters;

/// What a request's tools say of their parameters' types. A schema is looked into only when the model calls the
/// function: the client writes it, and may write a very large one.
#[derive(Clone, Debug, Default)]
pub(super) struct ToolSchemas {
    /// The schema of each function's parameters.
    functions: HashMap<String, Value>,
}

/// The JSON types that a schema allows; none when it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Types {
    string: bool,
    number: bool,
    integer: bool,
    boolean: bool,
    null: bool,
    object: bool,
    array: bool,
}

impl ToolSchemas {
    /// Reads the tools of a request: `{"type": "function", "function": {"name": …, "parameters": {…}}}`.
    pub(super) fn new(tools: &[Value]) -> Self {
        let functions = tools
            .iter()
            .filter_map(|tool| {
                let function = tool.get("function").unwrap_or(tool);
                let name = function.get("name")?.as_str()?;
                let parameters = function.get("parameters")?;
                Some((name.to_owned(), parameters.clone()))
            })
            .collect();
        Self { functions }
    }

    /// The arguments of a call as a JSON object, in the order in which the model wrote them.
    pub(super) fn arguments(&self, function: &str, parameters: Parameters) -> String {
        let object = match parameters {
            Parameters::Typed(object) => object,
            Parameters::Raw(raw) => {
                let schema = self.functions.get(function);
                let mut known: HashMap<String, Types> = HashMap::new();
                let mut types_of = |name: &str| {
                    let root = schema?;
                    if let Some(types) = known.get(name) {
                        return Some(*types);
                    }
                    let types = Types::of(root.get("properties")?.get(name)?, root);
                    known.insert(name.to_owned(), types);
                    Some(types)
                };
                raw.into_iter()
                    .map(|(name, text)| {
                        let types = types_of(&name).unwrap_or_default();
                        (name, types.read(text))
                    })
                    .collect::<Map<_, _>>()
            }
        };
        Value::Object(object).to_string()
    }
}

impl Types {
    /// The types that a schema allows. `root` is what its references point into; each is followed once, however many
    /// there are, and in circles.
    fn of(schema: &Value, root: &Value) -> Self {
        let mut types = Self::default();
        let mut followed = HashSet::new();
        let mut open = vec![schema];
        while let Some(schema) = open.pop() {
            types.allow(schema);
            for key in ["anyOf", "oneOf", "allOf"] {
                open.extend(array(schema, key));
            }
            let reference = schema.get("$ref").and_then(Value::as_str);
            let target = reference
                .filter(|reference| followed.insert(*reference))
                .and_then(|reference| root.pointer(reference.strip_prefix('#')?));
            open.extend(target);
        }
        types
    }

    /// Adds the types that a schema itself names.
    fn allow(&mut self, schema: &Value) {
        match schema.get("type") {
            Some(Value::String(name)) => self.allow_named(name),
            Some(Value::Array(names)) => {
                names
                    .iter()
                    .filter_map(Value::as_str)
                    .for_each(|name| self.allow_named(name));
            }
            _ => {}
        }
        for value in schema.get("const").into_iter().chain(array(schema, "enum")) {
            self.allow_named(match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
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

    fn contains(self, value: &Value) -> bool {
        match value {
            Value::Null => self.null,
            Value::Bool(_) => self.boolean,
            Value::Number(number) => {
                self.number || (self.integer && number.as_f64().is_some_and(|n| n.fract() == 0.0))
            }
            Value::Array(_) => self.array,
            Value::Object(_) => self.object,
            // A string stays as it was written, quotes and all.
            Value::String(_) => false,
        }
    }

    /// A value of one of these types, or the text itself.
    fn read(self, text: String) -> Value {
        // The template writes Python's constants, so the model may too.
        let value = match text.trim() {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            // Beyond 64 bits a number would be rounded, and an id that was rounded is another id.
            digits if is_integer(digits) && !fits(digits.parse().ok()) => None,
            json => serde_json::from_str(json).ok(),
        };
        value
            .filter(|value| self.contains(value))
            .unwrap_or(Value::String(text))
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether JSON numbers hold it without rounding.
fn fits(number: Option<i128>) -> bool {
    number.is_some_and(|n| i64::try_from(n).is_ok() || u64::try_from(n).is_ok())
}

fn array<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    schema
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(schema: Value, text: &str) -> Value {
        let root =
            json!({"$defs": {"Colour": {"enum": ["red", 7]}, "Loop": {"$ref": "#/$defs/Loop"}}});
        Types::of(&schema, &root).read(text.to_owned())
    }

    #[test]
    fn a_value_has_the_type_that_the_schema_allows() {
        assert_eq!(read(json!({"type": "string"}), "3"), json!("3"));
        assert_eq!(read(json!({"type": "integer"}), "3"), json!(3));
        assert_eq!(read(json!({"type": "integer"}), "3.5"), json!("3.5"));
        assert_eq!(read(json!({"type": "number"}), " -3.5e0"), json!(-3.5));
        assert_eq!(read(json!({"type": "boolean"}), "true"), json!(true));
        assert_eq!(read(json!({"type": "boolean"}), "False"), json!(false));
        assert_eq!(
            read(json!({"type": "array"}), "[1, \"a\"]"),
            json!([1, "a"])
        );
        assert_eq!(
            read(json!({"type": "object"}), "{\"a\": null}"),
            json!({"a": null})
        );
        assert_eq!(
            read(json!({"type": "object"}), "not json"),
            json!("not json")
        );
        assert_eq!(read(json!({}), "3"), json!("3"), "an unknown type");
    }

    #[test]
    fn an_integer_that_json_would_round_stays_text() {
        let id = "123456789012345678901";
        assert_eq!(read(json!({"type": "integer"}), id), json!(id));
        let largest = u64::MAX.to_string();
        assert_eq!(read(json!({"type": "integer"}), &largest), json!(u64::MAX));
    }

    #[test]
    fn references_in_circles_cost_one_visit_each() {
        let loops = vec![json!({"$ref": "#/$defs/l"}); 20_000];
        let root = json!({"$defs": {"l": {"anyOf": loops, "type": "integer"}}});
        let types = Types::of(&json!({"$ref": "#/$defs/l"}), &root);
        assert_eq!(types.read("7".into()), json!(7));
    }

    #[test]
    fn unions_and_references_are_followed() {
        assert_eq!(
            read(json!({"type": ["string", "null"]}), "None"),
            json!(null)
        );
        assert_eq!(
            read(json!({"type": ["string", "null"]}), "nil"),
            json!("nil")
        );
        let either = json!({"anyOf": [{"type": "integer"}, {"type": "array"}]});
        assert_eq!(read(either.clone(), "[1]"), json!([1]));
        assert_eq!(read(either, "true"), json!("true"));
        assert_eq!(read(json!({"$ref": "#/$defs/Colour"}), "7"), json!(7));
        assert_eq!(read(json!({"$ref": "#/$defs/Colour"}), "red"), json!("red"));
        assert_eq!(read(json!({"$ref": "#/$defs/Loop"}), "7"), json!("7"));
    }

    #[test]
    fn odd_tools_are_harmless() {
        let odd = [
            json!(null),
            json!({"function": 3}),
            json!({"name": "f", "parameters": []}),
        ];
        let raw = Parameters::Raw(vec![("a".into(), "1".into()), ("a".into(), "2".into())]);
        assert_eq!(ToolSchemas::new(&odd).arguments("f", raw), r#"{"a":"2"}"#);
    }
}
