//! The value of a parameter, as its schema has it.
//!
//! A string is written raw, so its schema cannot be given to the compiler of JSON schemas, which would expect quotes:
//! `enum`, `const`, `pattern`, lengths and formats become terminals here. Every other value is JSON.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::GrammarError;
use crate::literal::quote;
use crate::schema::Schema;

/// The end of a value.
const END: &str = "\"\\n</parameter>\\n\"";
/// References that are followed in a row.
const MAX_HOPS: usize = 16;

/// A parameter of a function.
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) required: bool,
    /// The right side of a rule of Lark, closing tag included.
    pub(crate) value: String,
}

/// The parameters of a schema.
pub(crate) struct ParameterValues<'a> {
    schema: &'a Schema,
    strict: bool,
    /// The prefix of the terminals' names.
    prefix: String,
    /// The terminals that the values use, as rules of Lark.
    terminals: RefCell<Vec<String>>,
}

impl<'a> ParameterValues<'a> {
    pub(crate) fn new(schema: &'a Schema, strict: bool, prefix: String) -> Self {
        Self {
            schema,
            strict,
            prefix,
            terminals: RefCell::default(),
        }
    }

    /// The terminals that the values use, as rules of Lark.
    pub(crate) fn terminals(self) -> Vec<String> {
        self.terminals.into_inner()
    }

    /// Whether the schema names no parameter and allows any.
    pub(crate) fn is_open_ended(&self) -> bool {
        let closed = self.object().get("additionalProperties") == Some(&Value::Bool(false));
        self.properties().is_none_or(Map::is_empty) && !closed
    }

    /// The parameters, in the schema's order.
    pub(crate) fn parameters(&self) -> Result<Vec<Parameter>, GrammarError> {
        let required: BTreeSet<&str> = self
            .object()
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut parameters = Vec::new();
        for (name, schema) in self.properties().into_iter().flatten() {
            let path = format!("{}.properties.{name}", self.schema.path());
            // A name that would end its own tag cannot be written.
            if name.contains(['>', '\n']) || name.is_empty() {
                return Err(GrammarError::Refused {
                    path,
                    reason: "a parameter's name must have no `>` and no line break".into(),
                });
            }
            parameters.push(Parameter {
                name: name.clone(),
                required: required.contains(name.as_str()),
                value: self.value(schema, &path)?,
            });
        }
        if let Some(unknown) = required
            .iter()
            .find(|name| !parameters.iter().any(|p| p.name == **name))
            && self.strict
        {
            return Err(GrammarError::Refused {
                path: format!("{}.required", self.schema.path()),
                reason: format!("{unknown:?} is required and not among the properties"),
            });
        }
        Ok(parameters)
    }

    fn object(&self) -> &'a Map<String, Value> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        match self.resolve(self.schema.root()) {
            Value::Object(object) => object,
            _ => &EMPTY,
        }
    }

    fn properties(&self) -> Option<&'a Map<String, Value>> {
        self.object().get("properties")?.as_object()
    }

    /// What a schema refers to.
    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        for _ in 0..MAX_HOPS {
            let target = schema
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|reference| self.schema.root().pointer(reference.strip_prefix('#')?));
            match target {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }

    /// The right side of a rule for a value, closing tag included.
    fn value(&self, schema: &'a Value, path: &str) -> Result<String, GrammarError> {
        let mut alternatives = BTreeSet::new();
        self.alternatives(schema, path, 0, &mut alternatives)?;
        // Any text includes all others.
        if alternatives.contains("text") || alternatives.is_empty() {
            return Ok("text".into());
        }
        let all: Vec<_> = alternatives.into_iter().collect();
        Ok(all.join(" | "))
    }

    fn alternatives(
        &self,
        schema: &'a Value,
        path: &str,
        depth: usize,
        found: &mut BTreeSet<String>,
    ) -> Result<(), GrammarError> {
        let schema = self.resolve(schema);
        let Value::Object(object) = schema else {
            found.insert("text".into());
            return Ok(());
        };
        if let Some(values) = object.get("enum").and_then(Value::as_array) {
            found.extend(values.iter().map(literal));
            return Ok(());
        }
        if let Some(value) = object.get("const") {
            found.insert(literal(value));
            return Ok(());
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(branches) = object.get(key).and_then(Value::as_array)
                && depth < MAX_HOPS
            {
                for (index, branch) in branches.iter().enumerate() {
                    let path = format!("{path}.{key}[{index}]");
                    self.alternatives(branch, &path, depth + 1, found)?;
                }
                return Ok(());
            }
        }
        let types: Vec<&str> = match object.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let asserts_string = ["pattern", "minLength", "maxLength", "format"]
            .iter()
            .any(|key| object.contains_key(*key));
        let asserts_other = [
            "properties",
            "items",
            "minimum",
            "maximum",
            "allOf",
            "prefixItems",
        ]
        .iter()
        .any(|key| object.contains_key(*key));
        if types.contains(&"string") || types.is_empty() && !asserts_other {
            found.insert(match asserts_string {
                true => self.terminal(object, path)?,
                false => "text".into(),
            });
        }
        let others: Vec<Value> = types
            .iter()
            .filter(|name| **name != "string")
            .map(|name| (*name).into())
            .collect();
        if !others.is_empty() || asserts_other {
            let mut json = object.clone();
            if !others.is_empty() {
                json.insert("type".into(), Value::Array(others));
            }
            for key in ["$defs", "definitions"] {
                if let Some(definitions) = self.schema.root().get(key) {
                    json.entry(key).or_insert_with(|| definitions.clone());
                }
            }
            let operand = Schema::embedded(&Value::Object(json), !self.strict);
            found.insert(format!("%json {operand} {END}"));
        }
        Ok(())
    }

    /// A constrained string as a regular expression.
    fn terminal(&self, object: &Map<String, Value>, path: &str) -> Result<String, GrammarError> {
        let mut parts = Vec::new();
        let count = |key: &str| object.get(key).and_then(Value::as_u64);
        let (min, max) = (count("minLength"), count("maxLength"));
        if min.is_some() || max.is_some() {
            let max = max.map(|max| max.to_string()).unwrap_or_default();
            parts.push(format!("(?s:.{{{},{max}}})", min.unwrap_or(0)));
        }
        if let Some(pattern) = object.get("pattern").and_then(Value::as_str) {
            parts.push(anchored(&ascii_classes(pattern)));
        }
        if let Some(format) = object.get("format").and_then(Value::as_str) {
            parts.extend(raw_format(format).map(str::to_owned));
        }
        if parts.is_empty() {
            return Ok("text".into());
        }
        let mut terminals = Vec::new();
        for part in &parts {
            // A pattern that this dialect lacks cannot be enforced.
            match llguidance::derivre::RegexBuilder::new().mk_regex(part) {
                Ok(_) => terminals.push(format!("/{}/", llguidance::regex_to_lark(part, ""))),
                Err(_) if !self.strict => return Ok("text".into()),
                Err(error) => {
                    return Err(GrammarError::compile(
                        &format!("{path}.pattern"),
                        &format!("this pattern cannot be enforced: {error}"),
                    ));
                }
            }
        }
        let mut known = self.terminals.borrow_mut();
        let name = format!("{}_{}", self.prefix, known.len());
        known.push(format!("{name}: {}", terminals.join(" & ")));
        Ok(format!("{name} {END}"))
    }
}

/// One value of an `enum`.
fn literal(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.is_empty() {
        true => END.into(),
        false => format!("{} {END}", quote(&text)),
    }
}

/// `\\d`, `\\w` and `\\s` as ECMA-262 has them: ASCII, where this dialect has all of Unicode.
fn ascii_classes(pattern: &str) -> String {
    let mut ascii = String::with_capacity(pattern.len());
    let (mut chars, mut in_class) = (pattern.chars(), false);
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let class = match chars.next() {
                    Some('d') => "0-9",
                    Some('w') => "A-Za-z0-9_",
                    Some('s') => " \\t\\n\\r\\x0b\\x0c",
                    other => {
                        ascii.push('\\');
                        ascii.extend(other);
                        continue;
                    }
                };
                match in_class {
                    true => ascii += class,
                    false => ascii += &format!("[{class}]"),
                }
            }
            '[' => {
                in_class = true;
                ascii.push(c);
            }
            ']' => {
                in_class = false;
                ascii.push(c);
            }
            _ => ascii.push(c),
        }
    }
    ascii
}

/// A pattern, which is searched for, as an expression that matches the whole text.
fn anchored(pattern: &str) -> String {
    let (start, rest) = match pattern.strip_prefix('^') {
        Some(rest) => ("", rest),
        None => ("(?s:.*)", pattern),
    };
    let escaped = rest.ends_with("\\$") && !rest.ends_with("\\\\$");
    let (rest, end) = match rest.strip_suffix('$') {
        Some(inner) if !escaped => (inner, ""),
        _ => (rest, "(?s:.*)"),
    };
    format!("{start}(?:{rest}){end}")
}

/// A format as a regular expression (RFC 3339, 4122, 5321 in their common forms).
fn raw_format(name: &str) -> Option<&'static str> {
    Some(match name {
        "date" => r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])",
        "time" => {
            r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
        }
        "date-time" => {
            r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
        }
        "uuid" => r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
        "email" => {
            r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*(?:\.[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*)+"
        }
        "hostname" => {
            r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
        }
        "ipv4" => {
            r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
        }
        "ipv6" => {
            r"(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|::1|(?:[0-9a-fA-F]{1,4}:){1,6}:[0-9a-fA-F]{1,4}"
        }
        "uri" => {
            r"[a-zA-Z][a-zA-Z0-9+.-]*://[A-Za-z0-9._~-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?(?:\?[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?"
        }
        "duration" => r"P(?:[0-9]+W|[0-9]+D(?:T[0-9]+H)?|T[0-9]+[HMS])",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_a_pattern_are_ascii() {
        assert_eq!(
            ascii_classes(r"^\d{3}[\w.-]\.\S$"),
            r"^[0-9]{3}[A-Za-z0-9_.-]\.\S$"
        );
        assert_eq!(ascii_classes(r"a\"), r"a\");
    }

    #[test]
    fn pattern_without_anchors_is_searched_for() {
        assert_eq!(anchored("^a$"), "(?:a)");
        assert_eq!(anchored("a"), "(?s:.*)(?:a)(?s:.*)");
        assert_eq!(anchored(r"^a\$"), r"(?:a\$)(?s:.*)");
    }
}
