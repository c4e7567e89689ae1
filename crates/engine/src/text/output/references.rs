//! What a JSON schema refers to.

use std::collections::HashSet;

use serde_json::Value;

/// The schemas that `schema` refers to or combines. References in `followed` are not followed again.
pub(super) fn combined<'a>(
    schema: &'a Value,
    root: &'a Value,
    followed: &mut HashSet<&'a str>,
) -> Vec<&'a Value> {
    let mut schemas = Vec::new();
    for key in ["anyOf", "oneOf", "allOf"] {
        let listed = schema.get(key).and_then(Value::as_array);
        schemas.extend(listed.into_iter().flatten());
    }
    let reference = schema.get("$ref").and_then(Value::as_str);
    let target = reference
        .filter(|reference| followed.insert(*reference))
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    schemas.extend(target);
    schemas
}
