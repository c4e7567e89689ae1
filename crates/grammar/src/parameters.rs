//! The parameters of a function: the properties of the schema of its arguments, through references and `allOf`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::GrammarError;
use crate::references::References;
use crate::schema::Schema;
use crate::strings::refused;

/// Schemas that are combined for one function, at most.
const MAX_PARTS: usize = 64;
/// Bytes of a parameter's name, at most: its tag must be read again.
const MAX_NAME: usize = 256;

/// Keywords about objects that cannot be enforced where a call is written, unless they have no effect.
const REFUSED: [&str; 11] = [
    "$dynamicRef",
    "$recursiveRef",
    "anyOf",
    "const",
    "dependentRequired",
    "dependentSchemas",
    "enum",
    "if",
    "not",
    "oneOf",
    "propertyNames",
];

/// What a function takes.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// The name, the schema and the place of each.
    pub(crate) listed: Vec<(String, Value, String)>,
    /// The names of those that are required.
    pub(crate) required: BTreeSet<String>,
    /// The schema names none and allows any.
    pub(crate) is_open_ended: bool,
}

/// A schema of the arguments, of which all hold.
struct ArgumentsPart<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl Parameters {
    /// Reads the schema of a function's arguments.
    ///
    /// # Errors
    /// A keyword that cannot be enforced, if the function is `strict`.
    pub(crate) fn read(
        schema: &Schema,
        references: References<'_>,
        strict: bool,
    ) -> Result<Self, GrammarError> {
        let parts = parts(schema, references, strict)?;
        let mut parameters = Self::default();
        for part in &parts {
            let required = part.object.get("required").and_then(Value::as_array);
            let names = required.into_iter().flatten().filter_map(Value::as_str);
            parameters.required.extend(names.map(str::to_owned));
        }
        for part in &parts {
            let properties = part.object.get("properties").and_then(Value::as_object);
            for name in properties.into_iter().flat_map(Map::keys) {
                let path = format!("{}.properties.{name}", part.path);
                if parameters.listed.iter().any(|(known, ..)| known == name) {
                    continue;
                }
                if let Some(why) = unreadable(name) {
                    let reason = format!("a parameter's name {why}");
                    match strict {
                        true => return Err(GrammarError::Refused { path, reason }),
                        false => continue,
                    }
                }
                if let Some(schema) = combined(&parts, name) {
                    parameters.listed.push((name.clone(), schema, path));
                }
            }
        }
        let closed = |part: &ArgumentsPart<'_>| {
            part.object.get("additionalProperties") == Some(&json!(false))
        };
        parameters.is_open_ended = parameters.listed.is_empty() && !parts.iter().any(closed);
        let is_listed = |name: &String| parameters.listed.iter().any(|(known, ..)| known == name);
        if strict {
            if let Some(unknown) = parameters.required.iter().find(|name| !is_listed(name)) {
                return Err(GrammarError::Refused {
                    path: format!("{}.required", schema.path()),
                    reason: format!("{unknown:?} is required and not among the properties"),
                });
            }
            for part in &parts {
                part.refuse(&parameters)?;
            }
        }
        Ok(parameters)
    }
}

impl ArgumentsPart<'_> {
    /// Refuses a keyword that the grammar of a call does not enforce.
    fn refuse(&self, parameters: &Parameters) -> Result<(), GrammarError> {
        for (keyword, value) in self.object {
            let count = || value.as_u64().unwrap_or(u64::MAX);
            let is_enforced = match keyword.as_str() {
                "type" => match value {
                    Value::Array(names) => names.contains(&json!("object")),
                    name => name == "object",
                },
                "minProperties" => count() <= parameters.required.len() as u64,
                "maxProperties" => count() >= parameters.listed.len() as u64,
                "patternProperties" => value.as_object().is_some_and(Map::is_empty),
                "dependentRequired" | "dependentSchemas" => {
                    value.as_object().is_some_and(Map::is_empty)
                }
                keyword => !REFUSED.contains(&keyword),
            };
            if !is_enforced {
                let why = "cannot be enforced for the arguments of a function";
                return Err(refused(&self.path, keyword, why));
            }
        }
        Ok(())
    }
}

/// The schema itself, what it refers to, and what it combines with `allOf`.
fn parts<'a>(
    schema: &'a Schema,
    references: References<'a>,
    strict: bool,
) -> Result<Vec<ArgumentsPart<'a>>, GrammarError> {
    let mut parts: Vec<ArgumentsPart<'_>> = Vec::new();
    let mut open = vec![(schema.root(), schema.path().to_owned())];
    while let Some((value, path)) = open.pop() {
        let Value::Object(object) = value else {
            if strict && value == &Value::Bool(false) {
                let reason = "it accepts no arguments at all".to_owned();
                return Err(GrammarError::Refused { path, reason });
            }
            continue;
        };
        if parts.iter().any(|part| std::ptr::eq(part.object, object)) {
            continue;
        }
        if parts.len() == MAX_PARTS {
            let reason = format!("it combines more than {MAX_PARTS} schemas");
            return Err(GrammarError::TooComplex { path, reason });
        }
        match references.target(object) {
            Some(Some(target)) => open.push((target, format!("{path}.$ref"))),
            Some(None) if strict => {
                return Err(refused(&path, "$ref", "refers to no place in this schema"));
            }
            _ => {}
        }
        let all = object.get("allOf").and_then(Value::as_array);
        for (index, branch) in all.into_iter().flatten().enumerate() {
            open.push((branch, format!("{path}.allOf[{index}]")));
        }
        parts.push(ArgumentsPart { object, path });
    }
    Ok(parts)
}

/// What all parts say of one parameter; none if one of them forbids it.
fn combined(parts: &[ArgumentsPart<'_>], name: &str) -> Option<Value> {
    let mut schemas = Vec::new();
    for part in parts {
        let properties = part.object.get("properties").and_then(Value::as_object);
        let schema = match properties.and_then(|properties| properties.get(name)) {
            Some(schema) => schema,
            None => part
                .object
                .get("additionalProperties")
                .unwrap_or(&Value::Bool(true)),
        };
        match schema {
            Value::Bool(true) => {}
            Value::Bool(false) => return None,
            schema => schemas.push(schema.clone()),
        }
    }
    Some(match schemas.len() {
        0 => json!({}),
        1 => schemas.remove(0),
        _ => json!({ "allOf": schemas }),
    })
}

/// Why the parser of answers could not read a name back, if so.
fn unreadable(name: &str) -> Option<&'static str> {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if name.is_empty() {
        Some("must not be empty")
    } else if name.len() > MAX_NAME {
        Some("must have at most 256 bytes")
    } else if name.contains(['<', '>']) {
        Some("must have no `<` and no `>`")
    } else if name.contains(breaks) {
        Some("must have no line break and no control character")
    } else if name.trim() != name {
        Some("must not begin or end with white space")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(schema: Value, strict: bool) -> Result<Parameters, GrammarError> {
        let schema = Schema::check(&schema, "parameters", !strict)?;
        Parameters::read(&schema, References::new(schema.root()), strict)
    }

    #[test]
    fn parameters_are_found_through_references_and_combinations() {
        let schema = json!({
            "$ref": "#/$defs/base",
            "allOf": [{"properties": {"b": {"minimum": 1}}, "required": ["b"]}],
            "$defs": {"base": {"properties": {"a": true, "b": {"type": "integer"}}, "required": ["a"]}},
        });
        let parameters = read(schema, true).unwrap();
        let names: BTreeSet<_> = parameters
            .listed
            .iter()
            .map(|(name, ..)| name.as_str())
            .collect();
        assert_eq!(names, BTreeSet::from(["a", "b"]));
        assert_eq!(
            parameters.required,
            BTreeSet::from(["a".into(), "b".into()])
        );
        let combined = parameters
            .listed
            .iter()
            .find(|(name, ..)| name == "b")
            .unwrap();
        assert_eq!(combined.1["allOf"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn name_that_cannot_be_read_back_is_refused_or_left_out() {
        for name in [
            "",
            " lead",
            "trail ",
            "x<y",
            "x>y",
            "</parameter",
            "a\nb",
            "\u{2028}",
            "\u{7f}",
        ] {
            let schema = json!({"properties": {name: {}, "good": {}}});
            let error = read(schema.clone(), true).unwrap_err();
            assert_eq!(
                error.path(),
                Some(format!("parameters.properties.{name}").as_str())
            );
            assert_eq!(read(schema, false).unwrap().listed.len(), 1, "{name:?}");
        }
    }
}
