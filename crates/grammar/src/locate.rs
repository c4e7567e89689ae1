//! Where in a schema the compiler refuses it, so that the message names a path.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::GrammarError;
use crate::patterns;
use crate::references::References;
use crate::schema::{Schema, collect};

/// Parts that are compiled on their own to find the one that is refused, at most.
const MAX_COMPILED: usize = 50;
/// How long that may take.
const LOCATE_LIMIT: Duration = Duration::from_millis(200);

/// Keywords that the compiler never enforces.
const NEVER: [&str; 12] = [
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords that it enforces in some schemas.
const ENFORCED: [&str; 27] = [
    "$ref",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "required",
    "type",
];

/// The innermost part that `compiles` refuses, with its error; of several the first. None if it is not found with a
/// few attempts: the client writes the schema, and it may have thousands of parts.
pub(crate) fn locate(
    schema: &Schema,
    compiles: impl Fn(&str) -> Result<(), String>,
    is_wanted: &dyn Fn() -> bool,
) -> Option<GrammarError> {
    let mut parts = Vec::new();
    collect(schema.root(), schema.path(), &mut parts);
    let references = References::new(schema.root());
    if let Some(error) = parts
        .iter()
        .find_map(|(path, part)| plain(path, part, references))
    {
        return Some(error);
    }
    let (begun, attempts) = (Instant::now(), Cell::new(0));
    let compiles = |schema: Map<String, Value>| {
        attempts.set(attempts.get() + 1);
        let is_spent = attempts.get() > MAX_COMPILED || begun.elapsed() > LOCATE_LIMIT;
        if is_spent || !is_wanted() {
            return None;
        }
        let schema = Value::Object(references.with_definitions(schema));
        Some(compiles(&Schema::embedded(&schema, false)))
    };
    // Inner parts come behind what contains them.
    for (path, part) in parts.iter().rev() {
        let Value::Object(part) = part else { continue };
        let Err(text) = compiles(part.clone())? else {
            continue;
        };
        // Among its keywords, the one that is refused on its own, or without which the rest is accepted.
        let refused = |key: &&String, alone: bool| {
            let mut some = part.clone();
            some.retain(|other, _| (other == *key) == alone);
            compiles(some).is_some_and(|result| result.is_err() == alone)
        };
        let mut known = part.keys().filter(|key| ENFORCED.contains(&key.as_str()));
        let keyword = known
            .clone()
            .find(|key| refused(key, true))
            .or_else(|| known.find(|key| refused(key, false)));
        return Some(match keyword {
            Some(key) => refuse(&format!("{path}.{key}"), key, &text),
            None => GrammarError::compile(path, &text),
        });
    }
    None
}

/// What is refused in a part, as far as that is plain without compiling it.
fn plain(path: &str, part: &Value, references: References<'_>) -> Option<GrammarError> {
    let object = part.as_object()?;
    for key in object.keys() {
        let never = NEVER.contains(&key.as_str()) || key == "uniqueItems";
        if never {
            return Some(refuse(&format!("{path}.{key}"), key, "not supported"));
        }
    }
    if let Some(pattern) = object.get("pattern").and_then(Value::as_str)
        && let Err(error) = patterns::pattern(pattern)
    {
        return Some(GrammarError::compile(&format!("{path}.pattern"), &error));
    }
    let reference = object
        .get("$ref")
        .filter(|_| references.target(object) == Some(None))?;
    let shown: String = reference.to_string().chars().take(100).collect();
    Some(GrammarError::Refused {
        path: format!("{path}.$ref"),
        reason: format!("{shown} is no place in this schema; put the definition into `$defs`"),
    })
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
