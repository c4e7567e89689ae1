//! The declared functions and the types of their parameters.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::references::combined;
use super::types::Types;

/// How many schemas are searched for a function's properties: the root and what it refers to or combines.
const MAX_ROOTS: usize = 16;

/// The functions that a request declares.
///
/// A schema is read only when the model calls the function: the client writes it, and may write a very large one.
#[derive(Clone, Debug, Default)]
pub(super) struct Functions {
    by_name: HashMap<String, DeclaredFunction>,
}

#[derive(Clone, Debug)]
struct DeclaredFunction {
    schema: Value,
    /// The schema of each property, once the function was called.
    properties: Option<Map<String, Value>>,
    /// The types of the properties that calls named.
    types: HashMap<String, Types>,
}

impl Functions {
    /// Reads tools of the form `{"type": "function", "function": {"name": …, "parameters": {…}}}`.
    pub(super) fn new(tools: &[Value]) -> Self {
        let by_name = tools.iter().filter_map(|tool| {
            let function = tool.get("function").unwrap_or(tool);
            let name = function.get("name")?.as_str()?;
            let function = DeclaredFunction {
                schema: function.get("parameters").cloned().unwrap_or_default(),
                properties: None,
                types: HashMap::new(),
            };
            Some((name.to_owned(), function))
        });
        Self {
            by_name: by_name.collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn declares(&self, function: &str) -> bool {
        self.by_name.contains_key(function)
    }

    /// Whether the function's schema lists the property.
    pub(super) fn has_property(&mut self, function: &str, property: &str) -> bool {
        self.by_name
            .get_mut(function)
            .is_some_and(|function| function.properties().contains_key(property))
    }

    /// The types of a property. One that the schema does not list is a string.
    pub(super) fn types(&mut self, function: &str, property: &str) -> Types {
        let Some(function) = self.by_name.get_mut(function) else {
            return Types::STRING;
        };
        if let Some(types) = function.types.get(property) {
            return *types;
        }
        function.properties();
        let schema = function
            .properties
            .as_ref()
            .and_then(|all| all.get(property));
        let Some(schema) = schema else {
            return Types::STRING;
        };
        let types = Types::of(schema, &function.schema);
        function.types.insert(property.to_owned(), types);
        types
    }
}

impl DeclaredFunction {
    fn properties(&mut self) -> &Map<String, Value> {
        let schema = &self.schema;
        self.properties.get_or_insert_with(|| {
            let mut properties = Map::new();
            for root in roots(schema) {
                let listed = root.get("properties").and_then(Value::as_object);
                for (name, schema) in listed.into_iter().flatten() {
                    properties
                        .entry(name.as_str())
                        .or_insert_with(|| schema.clone());
                }
            }
            properties
        })
    }
}

/// The root schema, and those that it refers to or combines.
fn roots(schema: &Value) -> Vec<&Value> {
    let mut roots = vec![schema];
    let mut next = 0;
    while next < roots.len() {
        let more = combined(roots[next], schema, &mut HashSet::new());
        let room = MAX_ROOTS.saturating_sub(roots.len());
        roots.extend(more.into_iter().take(room));
        next += 1;
    }
    roots
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn malformed_tools_are_ignored() {
        let tools = [
            json!(null),
            json!({"function": 3}),
            json!({"name": "f", "parameters": []}),
        ];
        let mut functions = Functions::new(&tools);
        assert!(functions.declares("f"));
        assert_eq!(functions.types("f", "a"), Types::STRING);
        assert_eq!(functions.types("g", "a"), Types::STRING);
    }

    #[test]
    fn properties_behind_references_are_found() {
        let tools = [json!({"name": "f", "parameters": {
            "$ref": "#/$defs/f",
            "allOf": [{"properties": {"b": {}}}, {"$ref": "#/$defs/f"}],
            "$defs": {"f": {"properties": {"a": {"type": "integer"}}, "$ref": "#/$defs/f"}},
        }})];
        let mut functions = Functions::new(&tools);
        assert!(functions.has_property("f", "a"));
        assert!(functions.has_property("f", "b"));
        assert!(!functions.has_property("f", "c"));
        assert_eq!(functions.types("f", "a").read("1"), "1");
    }
}
