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
    /// The strings that those properties list.
    listed: HashMap<String, HashSet<String>>,
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
                listed: HashMap::new(),
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

impl Functions {
    /// Whether a text is one of the strings that a property lists in an `enum` or `const`: then it is a string, whatever
    /// else it could be.
    pub(super) fn lists(&mut self, function: &str, property: &str, text: &str) -> bool {
        let Some(function) = self.by_name.get_mut(function) else {
            return false;
        };
        if !function.listed.contains_key(property) {
            function.properties();
            let properties = function.properties.as_ref();
            let schema = properties.and_then(|all| all.get(property));
            let listed = schema.map(|schema| listed(schema, &function.schema));
            let listed = listed.unwrap_or_default();
            function.listed.insert(property.to_owned(), listed);
        }
        let listed = function.listed.get(property);
        listed.is_some_and(|listed| listed.contains(text))
    }
}

/// The strings in the `enum` and `const` of a schema and of those that it refers to or combines.
fn listed(schema: &Value, root: &Value) -> HashSet<String> {
    let (mut texts, mut followed) = (HashSet::new(), HashSet::new());
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        let is_string = match schema.get("type") {
            Some(Value::Array(names)) => names.iter().any(|name| name == "string"),
            Some(name) => name == "string",
            None => true,
        };
        let values = schema.get("enum").and_then(Value::as_array);
        let values = schema
            .get("const")
            .into_iter()
            .chain(values.into_iter().flatten());
        let strings = values.filter_map(Value::as_str).filter(|_| is_string);
        texts.extend(strings.map(str::to_owned));
        open.extend(combined(schema, root, &mut followed));
    }
    texts
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

    #[test]
    fn listed_string_is_a_string() {
        let tools = [json!({"name": "f", "parameters": {"properties": {
            "a": {"enum": ["1", 2]},
            "b": {"anyOf": [{"const": "null"}, {"type": "null"}]},
            "c": {"type": "integer", "enum": ["1", 1]},
        }}})];
        let mut functions = Functions::new(&tools);
        assert!(functions.lists("f", "a", "1") && functions.lists("f", "b", "null"));
        for (property, text) in [("a", "2"), ("c", "1"), ("d", "1")] {
            assert!(!functions.lists("f", property, text), "{property}");
        }
    }
}
