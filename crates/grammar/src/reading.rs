//! How a raw value of a parameter is read: as JSON of one of the types that its schema names, or else as a string.
//!
//! The parser of answers decides that by the types that the schema names anywhere (`sanctum_engine`'s `text::output`), so a
//! grammar must not allow a text that it reads as a value which the schema refuses.

use std::collections::HashSet;

use serde_json::Value;

use crate::references::References;

/// Combinations inside each other that are looked into.
const MAX_DEPTH: usize = 32;

/// A type of JSON but strings. An integer is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum JsonType {
    Null,
    Boolean,
    Number,
    Object,
    Array,
}

impl JsonType {
    pub(crate) const ALL: [Self; 5] = [
        Self::Null,
        Self::Boolean,
        Self::Number,
        Self::Object,
        Self::Array,
    ];

    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => return None,
            Value::Array(_) => Self::Array,
            Value::Object(_) => Self::Object,
        })
    }

    /// Whether a value is of it.
    pub(crate) fn is_of(self, value: &Value) -> bool {
        Self::of(value) == Some(self)
    }

    fn named(self, name: &str) -> bool {
        self.names().contains(&name)
    }

    /// Its names in schemas.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Null => &["null"],
            Self::Boolean => &["boolean"],
            Self::Number => &["number", "integer"],
            Self::Object => &["object"],
            Self::Array => &["array"],
        }
    }

    /// The texts that are read as such a value begin like this.
    pub(crate) fn beginning(self) -> &'static str {
        match self {
            Self::Null => r"\s*(?:null|None)\s*",
            Self::Boolean => r"\s*(?:true|false|True|False)\s*",
            Self::Number => r"\s*-?[0-9](?s:.*)",
            Self::Object => r"\s*\{(?s:.*)",
            Self::Array => r"\s*[\[(](?s:.*)",
        }
    }
}

/// The types that a raw value is read as, if its text permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadTypes {
    /// The types.
    pub(crate) kinds: Vec<JsonType>,
    /// Whether a number with a fraction is read as one.
    fractions: bool,
}

/// How the values of schemas are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    references: References<'a>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(references: References<'a>) -> Self {
        Self { references }
    }

    /// The types that a raw value is read as. A schema that names none is one of objects and arrays.
    pub(crate) fn types(self, schema: &Value) -> ReadTypes {
        let (mut named, mut any, mut fractions) = (HashSet::new(), false, false);
        let (mut open, mut followed) = (vec![schema], HashSet::new());
        while let Some(schema) = open.pop() {
            let Value::Object(object) = schema else {
                continue;
            };
            match object.get("type") {
                Some(Value::String(name)) => {
                    any |= add(&mut named, name);
                    fractions |= name == "number";
                }
                Some(Value::Array(names)) => {
                    for name in names.iter().filter_map(Value::as_str) {
                        any |= add(&mut named, name);
                        fractions |= name == "number";
                    }
                }
                _ => {
                    for (keyword, kind) in
                        [("properties", JsonType::Object), ("items", JsonType::Array)]
                    {
                        if object.contains_key(keyword) {
                            named.insert(kind);
                        }
                    }
                }
            }
            if object.get("nullable") == Some(&Value::Bool(true)) {
                named.insert(JsonType::Null);
            }
            let listed = object.get("enum").and_then(Value::as_array);
            for value in object
                .get("const")
                .into_iter()
                .chain(listed.into_iter().flatten())
            {
                fractions |= value.is_f64();
                match JsonType::of(value) {
                    Some(kind) => {
                        named.insert(kind);
                    }
                    None => any = true,
                }
            }
            for key in ["anyOf", "oneOf", "allOf"] {
                open.extend(
                    object
                        .get(key)
                        .and_then(Value::as_array)
                        .into_iter()
                        .flatten(),
                );
            }
            if let Some(Some(target)) = self.references.target(object)
                && followed.insert(object.get("$ref").and_then(Value::as_str))
            {
                open.push(target);
            }
        }
        let all = JsonType::ALL.into_iter();
        let kinds = match named.is_empty() && !any {
            true => vec![JsonType::Object, JsonType::Array],
            false => all.filter(|kind| named.contains(kind)).collect(),
        };
        ReadTypes { kinds, fractions }
    }

    /// Whether the schema accepts every value that is read as one of a type, as far as that is plain.
    pub(crate) fn accepts_all(self, schema: &Value, read: &ReadTypes, kind: JsonType) -> bool {
        self.all_of_type(schema, read, kind, 0)
    }

    fn all_of_type(self, schema: &Value, read: &ReadTypes, kind: JsonType, depth: usize) -> bool {
        let Value::Object(object) = schema else {
            return schema != &Value::Bool(false);
        };
        let below =
            |schema: &Value| depth < MAX_DEPTH && self.all_of_type(schema, read, kind, depth + 1);
        object.iter().all(|(key, value)| match key.as_str() {
            "type" => named(value, |name| {
                kind.named(name) && (name != "integer" || !read.fractions)
            }),
            "$ref" => matches!(self.references.target(object), Some(Some(target)) if below(target)),
            "allOf" => value.as_array().is_some_and(|list| list.iter().all(below)),
            "anyOf" => value.as_array().is_some_and(|list| list.iter().any(below)),
            "enum" | "const" | "oneOf" | "not" | "if" | "$dynamicRef" | "$recursiveRef" => false,
            key => !asserts(key, kind),
        })
    }

    /// Whether the schema may accept values of a type.
    pub(crate) fn accepts_some(self, schema: &Value, kind: JsonType) -> bool {
        self.some_of_type(schema, kind, 0)
    }

    fn some_of_type(self, schema: &Value, kind: JsonType, depth: usize) -> bool {
        let Value::Object(object) = schema else {
            return schema != &Value::Bool(false);
        };
        let below =
            |schema: &Value| depth >= MAX_DEPTH || self.some_of_type(schema, kind, depth + 1);
        object.iter().all(|(key, value)| match key.as_str() {
            "type" => named(value, |name| kind.named(name)),
            "enum" => value
                .as_array()
                .is_none_or(|list| list.iter().any(|value| JsonType::of(value) == Some(kind))),
            "const" => JsonType::of(value) == Some(kind),
            "$ref" => self.references.target(object).flatten().is_none_or(below),
            "allOf" => value.as_array().is_none_or(|list| list.iter().all(below)),
            "anyOf" | "oneOf" => value.as_array().is_none_or(|list| list.iter().any(below)),
            _ => true,
        })
    }

    /// Whether the schema may accept strings.
    pub(crate) fn may_be_string(self, schema: &Value) -> bool {
        self.maybe_string(schema, 0)
    }

    fn maybe_string(self, schema: &Value, depth: usize) -> bool {
        let Value::Object(object) = schema else {
            return schema != &Value::Bool(false);
        };
        let below = |schema: &Value| depth >= MAX_DEPTH || self.maybe_string(schema, depth + 1);
        object.iter().all(|(key, value)| match key.as_str() {
            "type" => named(value, |name| name == "string"),
            "enum" => value
                .as_array()
                .is_none_or(|list| list.iter().any(Value::is_string)),
            "const" => value.is_string(),
            "$ref" => self.references.target(object).flatten().is_none_or(below),
            "allOf" => value.as_array().is_none_or(|list| list.iter().all(below)),
            "anyOf" | "oneOf" => value.as_array().is_none_or(|list| list.iter().any(below)),
            _ => true,
        })
    }

    /// Whether the schema accepts null, true or false.
    pub(crate) fn accepts_word(self, schema: &Value, word: &Value) -> bool {
        self.word(schema, word, 0)
    }

    fn word(self, schema: &Value, word: &Value, depth: usize) -> bool {
        let Value::Object(object) = schema else {
            return schema != &Value::Bool(false);
        };
        let below = |schema: &Value| depth < MAX_DEPTH && self.word(schema, word, depth + 1);
        let kind = JsonType::of(word);
        object.iter().all(|(key, value)| match key.as_str() {
            "type" => named(value, |name| kind.is_some_and(|kind| kind.named(name))),
            "enum" => value.as_array().is_none_or(|list| list.contains(word)),
            "const" => value == word,
            "$ref" => matches!(self.references.target(object), Some(Some(target)) if below(target)),
            "allOf" => value.as_array().is_none_or(|list| list.iter().all(below)),
            "anyOf" => value.as_array().is_none_or(|list| list.iter().any(below)),
            "oneOf" => value
                .as_array()
                .is_none_or(|list| list.iter().filter(|branch| below(branch)).count() == 1),
            // What cannot be decided here is not written.
            "not" | "if" | "$dynamicRef" | "$recursiveRef" => false,
            _ => true,
        })
    }
}

/// Adds a named type; true if it is one that has a name of its own here: a string.
fn add(named: &mut HashSet<JsonType>, name: &str) -> bool {
    named.extend(JsonType::ALL.into_iter().find(|kind| kind.named(name)));
    name == "string"
}

fn named(value: &Value, is: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

/// Whether a keyword, other than those that combine schemas, asserts something about values of a type.
fn asserts(keyword: &str, kind: JsonType) -> bool {
    let keywords: &[&str] = match kind {
        JsonType::Null | JsonType::Boolean => &[],
        JsonType::Number => &[
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
        ],
        JsonType::Object => &[
            "properties",
            "patternProperties",
            "additionalProperties",
            "propertyNames",
            "required",
            "minProperties",
            "maxProperties",
            "dependentRequired",
            "dependentSchemas",
            "unevaluatedProperties",
        ],
        JsonType::Array => &[
            "items",
            "prefixItems",
            "contains",
            "minItems",
            "maxItems",
            "uniqueItems",
            "unevaluatedItems",
        ],
    };
    keywords.contains(&keyword)
}
