//! References inside a JSON schema.

use serde_json::{Map, Value, json};

/// What the references of a schema point into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct References<'a> {
    root: &'a Value,
}

impl<'a> References<'a> {
    pub(crate) fn new(root: &'a Value) -> Self {
        Self { root }
    }

    /// The target of a schema's `$ref`: none if it has no `$ref`, `Some(None)` if there is no such place.
    pub(crate) fn target(self, schema: &Map<String, Value>) -> Option<Option<&'a Value>> {
        let reference = schema.get("$ref")?;
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        Some(pointer.and_then(|pointer| self.root.pointer(pointer)))
    }

    /// A schema with all that it may refer to, to be compiled on its own.
    pub(crate) fn with_definitions(self, mut schema: Map<String, Value>) -> Map<String, Value> {
        for key in DEFINITIONS {
            if let Some(definitions) = self.root.get(key) {
                schema.entry(key).or_insert_with(|| definitions.clone());
            }
        }
        if refers_elsewhere(self.root) {
            let mut root = self.root.clone();
            redirect(&mut root);
            schema.values_mut().for_each(redirect);
            if let Some(reference) = schema.get_mut("$ref") {
                redirect_reference(reference);
            }
            let definitions = schema.entry("$defs").or_insert_with(|| json!({}));
            if let Value::Object(definitions) = definitions {
                definitions.insert(WHOLE.into(), root);
            }
        }
        schema
    }
}

/// Where definitions are by convention.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// The name of the whole schema among the definitions of a part of it.
const WHOLE: &str = "sanctum:whole";

fn is_elsewhere(reference: &Value) -> bool {
    reference.as_str().is_some_and(|text| {
        text.starts_with('#')
            && !text.starts_with("#/$defs/")
            && !text.starts_with("#/definitions/")
    })
}

/// Whether a schema refers to a place that is not among its definitions.
fn refers_elsewhere(schema: &Value) -> bool {
    match schema {
        Value::Object(object) => {
            object.get("$ref").is_some_and(is_elsewhere) || object.values().any(refers_elsewhere)
        }
        Value::Array(list) => list.iter().any(refers_elsewhere),
        _ => false,
    }
}

/// Makes references to places of the whole schema refer to its copy.
fn redirect(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(reference) = object.get_mut("$ref") {
                redirect_reference(reference);
            }
            object.values_mut().for_each(redirect);
        }
        Value::Array(list) => list.iter_mut().for_each(redirect),
        _ => {}
    }
}

fn redirect_reference(reference: &mut Value) {
    if is_elsewhere(reference)
        && let Some(text) = reference.as_str()
    {
        *reference = format!("#/$defs/{WHOLE}{}", &text[1..]).into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_to_the_whole_schema_keeps_its_meaning_in_a_part() {
        let root = json!({"properties": {"items": {"$ref": "#"}}, "$defs": {"a": {"$ref": "#/properties/items"}}});
        let part = json!({"$ref": "#/$defs/a"}).as_object().unwrap().clone();
        let alone = Value::Object(References::new(&root).with_definitions(part));
        assert_eq!(alone["$ref"], "#/$defs/a");
        let whole = format!("#/$defs/{WHOLE}");
        assert_eq!(
            alone["$defs"]["a"]["$ref"],
            format!("{whole}/properties/items")
        );
        assert_eq!(alone["$defs"][WHOLE]["properties"]["items"]["$ref"], whole);
    }
}
