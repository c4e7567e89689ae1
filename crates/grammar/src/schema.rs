//! A JSON schema, made ready for the compiler.
//!
//! The compiler enforces most assertions of draft 2020-12 and refuses the rest by name. Here a schema is bounded,
//! what asserts nothing is removed (an unknown `format`, `uniqueItems: false`), and when the compiler refuses a schema,
//! [`Schema::locate`] finds the innermost part that it refuses, so that the message names a path.

use serde_json::{Map, Value, json};

use crate::GrammarError;

/// Bytes of a schema, at most.
const MAX_BYTES: usize = 256 << 10;
/// Nesting of a schema, at most. The compiler is recursive.
const MAX_DEPTH: usize = 64;
/// Parts that are compiled on their own to find the one that is refused.
const MAX_PARTS: usize = 200;

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

/// An excluded bound of a number becomes an included one, so much farther inside: the compiler accepts some excluded
/// bounds, such as -3 for `exclusiveMaximum: -3`.
const INSIDE: f64 = 1e-6;

/// A schema that is bounded and normalised.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    root: Value,
    path: String,
}

impl Schema {
    /// Checks and normalises the schema at `path` in the request.
    pub(crate) fn check(schema: &Value, path: &str) -> Result<Self, GrammarError> {
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
        normalise(&mut root, path, 0)?;
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

    /// The innermost part that `compiles` refuses, with its error; of several the first.
    pub(crate) fn locate(
        &self,
        compiles: impl Fn(&str) -> Result<(), String>,
    ) -> Option<GrammarError> {
        let mut parts = Vec::new();
        collect(&self.root, &self.path, &mut parts);
        let definitions: Vec<_> = ["$defs", "definitions"]
            .into_iter()
            .filter_map(|key| Some((key, self.root.get(key)?)))
            .collect();
        // Inner parts come behind what contains them.
        for (path, part) in parts.iter().rev().take(MAX_PARTS) {
            let Value::Object(part) = part else { continue };
            let mut alone = part.clone();
            for (key, value) in &definitions {
                alone.entry(*key).or_insert_with(|| (*value).clone());
            }
            let Err(text) = compiles(&Self::embedded(&Value::Object(alone), false)) else {
                continue;
            };
            // Among its keywords, the one that is refused on its own, or without which the rest is accepted.
            let refused = |key: &&String, alone: bool| {
                let mut some = part.clone();
                some.retain(|other, _| (other == *key) == alone);
                for (name, value) in &definitions {
                    some.entry(*name).or_insert_with(|| (*value).clone());
                }
                compiles(&Self::embedded(&Value::Object(some), false)).is_err() == alone
            };
            let keyword = part
                .keys()
                .find(|key| refused(key, true))
                .or_else(|| part.keys().find(|key| refused(key, false)));
            return Some(match keyword {
                Some(key) => refuse(&format!("{path}.{key}"), key, &text),
                None => GrammarError::compile(path, &text),
            });
        }
        None
    }
}

fn refuse(path: &str, keyword: &str, text: &str) -> GrammarError {
    match GrammarError::compile(path, text) {
        GrammarError::Refused { reason, .. } => GrammarError::Refused {
            path: path.into(),
            reason: match reason.contains("Unimplemented") || reason.contains("not supported") {
                true => format!(
                    "`{keyword}` cannot be enforced; remove it, or set strict to false to have it ignored"
                ),
                false => format!("`{keyword}` is refused: {reason}"),
            },
        },
        other => other,
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

fn collect<'a>(schema: &'a Value, path: &str, parts: &mut Vec<(String, &'a Value)>) {
    parts.push((path.to_owned(), schema));
    for (path, child) in children(schema, path) {
        collect(child, &path, parts);
    }
}

/// Removes what asserts nothing, at every place where a schema is.
fn normalise(schema: &mut Value, path: &str, depth: usize) -> Result<(), GrammarError> {
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
    if object.get("type") != Some(&json!("integer")) {
        for (excluded, included, inside) in [
            ("exclusiveMaximum", "maximum", -INSIDE),
            ("exclusiveMinimum", "minimum", INSIDE),
        ] {
            let Some(bound) = object.get(excluded).and_then(Value::as_f64) else {
                continue;
            };
            let bound = bound + inside;
            let other = object.get(included).and_then(Value::as_f64);
            let tighter = other.is_none_or(|other| (bound - other) * inside > 0.0);
            object.remove(excluded);
            if tighter {
                object.insert(included.into(), bound.into());
            }
        }
    }
    for (key, value) in object.iter_mut() {
        let below = || format!("{path}.{key}");
        match value {
            Value::Array(list) if LISTS.contains(&key.as_str()) || key == "items" => {
                for (index, child) in list.iter_mut().enumerate() {
                    normalise(child, &format!("{}[{index}]", below()), depth + 1)?;
                }
            }
            Value::Object(map) if MAPS.contains(&key.as_str()) => {
                for (name, child) in map.iter_mut() {
                    normalise(child, &format!("{}.{name}", below()), depth + 1)?;
                }
            }
            Value::Object(_) if ONE.contains(&key.as_str()) => {
                normalise(value, &below(), depth + 1)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A whole number that is written as a fraction.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_f64().filter(|_| value.is_f64())?;
    (number >= 0.0 && number.fract() == 0.0 && number < 1e15).then_some(number as u64)
}
