//! A JSON schema, made ready for the compiler.
//!
//! The compiler enforces most assertions of draft 2020-12 and refuses the rest by name. Here a schema is bounded,
//! and what asserts nothing is removed (an unknown `format`, `uniqueItems: false`).

use serde_json::{Map, Value, json};

use crate::GrammarError;
use crate::bounds::include_bounds;
use crate::patterns;
use crate::references::References;

/// Bytes of a schema, at most.
const MAX_BYTES: usize = 256 << 10;
/// Nesting of a schema, at most. The compiler is recursive.
const MAX_DEPTH: usize = 64;
/// Formats that are enforced; all others are annotations, as the specification has it.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];

/// Keywords whose value is a schema.
const ONE: [&str; 12] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value maps names to schemas.
const MAPS: [&str; 5] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
    "properties",
];
/// Keywords whose value counts something: `2.0` is 2.
const COUNTS: [&str; 6] = [
    "maxItems",
    "maxLength",
    "maxProperties",
    "minItems",
    "minLength",
    "minProperties",
];

/// A schema that is bounded and normalised.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    root: Value,
    path: String,
}

impl Schema {
    /// Checks and normalises the schema at `path` in the request.
    ///
    /// If it is `lenient`, patterns that do not compile and references to nothing are left out.
    pub(crate) fn check(schema: &Value, path: &str, lenient: bool) -> Result<Self, GrammarError> {
        let bytes = schema.to_string().len();
        if bytes > MAX_BYTES {
            return Err(GrammarError::TooComplex {
                path: path.into(),
                reason: format!("it has {bytes} bytes, and at most {MAX_BYTES} are accepted"),
            });
        }
        if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
            return Err(GrammarError::Refused {
                path: path.into(),
                reason: "a JSON schema is an object".into(),
            });
        }
        let mut root = schema.clone();
        if lenient {
            leave_out(&mut root, References::new(schema), 0);
        }
        normalise(&mut root, path, lenient, 0)?;
        Ok(Self {
            root,
            path: path.into(),
        })
    }

    /// As the operand of `%json`.
    pub(crate) fn lark(&self, lenient: bool) -> String {
        Self::embedded(&self.root, lenient)
    }

    /// A schema as the operand of `%json`, with this crate's options.
    ///
    /// White space between tokens is bounded: without a bound a model can write it until its answer is cut.
    pub(crate) fn embedded(root: &Value, lenient: bool) -> String {
        let mut object = match root {
            Value::Object(object) => object.clone(),
            Value::Bool(false) => Map::from_iter([("not".to_owned(), json!({}))]),
            _ => Map::new(),
        };
        let options = json!({
            "whitespace_flexible": true,
            "whitespace_pattern": " |\\n {0,24}",
            "lenient": lenient,
        });
        object.insert("x-guidance".into(), options);
        Value::Object(object).to_string()
    }

    /// The schema's content.
    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// Where it is in the request.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// The schemas directly inside a schema, with their paths.
fn children<'a>(schema: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let Value::Object(object) = schema else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, value) in object {
        let below = format!("{path}.{key}");
        match value {
            Value::Array(list) if LISTS.contains(&key.as_str()) || key == "items" => {
                found.extend(
                    list.iter()
                        .enumerate()
                        .map(|(i, v)| (format!("{below}[{i}]"), v)),
                );
            }
            Value::Object(map) if MAPS.contains(&key.as_str()) => {
                found.extend(map.iter().map(|(name, v)| (format!("{below}.{name}"), v)));
            }
            Value::Object(_) if ONE.contains(&key.as_str()) => found.push((below, value)),
            _ => {}
        }
    }
    found
}

/// All parts of a schema with their paths; inner ones come behind what contains them.
pub(crate) fn collect<'a>(schema: &'a Value, path: &str, parts: &mut Vec<(String, &'a Value)>) {
    parts.push((path.to_owned(), schema));
    for (path, child) in children(schema, path) {
        collect(child, &path, parts);
    }
}

/// Removes what asserts nothing, at every place where a schema is.
fn normalise(
    schema: &mut Value,
    path: &str,
    lenient: bool,
    depth: usize,
) -> Result<(), GrammarError> {
    if depth > MAX_DEPTH {
        return Err(GrammarError::TooComplex {
            path: path.into(),
            reason: format!("it is nested more than {MAX_DEPTH} deep"),
        });
    }
    let Value::Object(object) = schema else {
        return Ok(());
    };
    // The compiler's own options are not the caller's to set.
    object.remove("x-guidance");
    let unknown = |value: &Value| !value.as_str().is_some_and(|name| FORMATS.contains(&name));
    if object.get("format").is_some_and(unknown) {
        object.remove("format");
    }
    for (key, inert) in [
        ("uniqueItems", json!(false)),
        ("propertyNames", json!({})),
        ("propertyNames", json!(true)),
        ("propertyNames", json!({"type": "string"})),
        ("not", json!(false)),
        ("unevaluatedProperties", json!(true)),
        ("unevaluatedItems", json!(true)),
        ("dependentRequired", json!({})),
        ("dependentSchemas", json!({})),
    ] {
        if object.get(key) == Some(&inert) {
            object.remove(key);
        }
    }
    // Keywords that modify another one, which is absent.
    if !object.contains_key("if") {
        object.remove("then");
        object.remove("else");
    }
    if !object.contains_key("contains") {
        object.remove("minContains");
        object.remove("maxContains");
    }
    for key in COUNTS {
        if let Some(count) = object.get(key).and_then(whole) {
            object.insert(key.into(), count.into());
        }
    }
    if object.get("type") != Some(&json!("integer"))
        && let Err(keyword) = include_bounds(object)
    {
        if !lenient {
            return Err(GrammarError::Refused {
                path: format!("{path}.{keyword}"),
                reason: format!("no number satisfies `{keyword}` and the other bound"),
            });
        }
        object.remove("minimum");
        object.remove("maximum");
    }
    for (key, value) in object.iter_mut() {
        let below = || format!("{path}.{key}");
        match value {
            Value::Array(list) if LISTS.contains(&key.as_str()) || key == "items" => {
                for (index, child) in list.iter_mut().enumerate() {
                    normalise(child, &format!("{}[{index}]", below()), lenient, depth + 1)?;
                }
            }
            Value::Object(map) if MAPS.contains(&key.as_str()) => {
                for (name, child) in map.iter_mut() {
                    normalise(child, &format!("{}.{name}", below()), lenient, depth + 1)?;
                }
            }
            Value::Object(_) if ONE.contains(&key.as_str()) => {
                normalise(value, &below(), lenient, depth + 1)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes patterns that do not compile and references to nothing.
fn leave_out(schema: &mut Value, references: References<'_>, depth: usize) {
    let Value::Object(object) = schema else {
        return;
    };
    if depth > MAX_DEPTH {
        return;
    }
    if references.target(object) == Some(None) {
        object.remove("$ref");
    }
    let fails = |pattern: &str| patterns::pattern(pattern).is_err();
    if object
        .get("pattern")
        .and_then(Value::as_str)
        .is_some_and(fails)
    {
        object.remove("pattern");
    }
    if let Some(Value::Object(properties)) = object.get_mut("patternProperties") {
        properties.retain(|pattern, _| !fails(pattern));
    }
    for (key, value) in object.iter_mut() {
        match value {
            Value::Array(list) if LISTS.contains(&key.as_str()) || key == "items" => {
                list.iter_mut()
                    .for_each(|child| leave_out(child, references, depth + 1));
            }
            Value::Object(map) if MAPS.contains(&key.as_str()) => {
                map.values_mut()
                    .for_each(|child| leave_out(child, references, depth + 1));
            }
            Value::Object(_) if ONE.contains(&key.as_str()) => {
                leave_out(value, references, depth + 1);
            }
            _ => {}
        }
    }
}

/// A whole number that is written as a fraction.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_f64().filter(|_| value.is_f64())?;
    (number >= 0.0 && number.fract() == 0.0 && number < 1e15).then_some(number as u64)
}
