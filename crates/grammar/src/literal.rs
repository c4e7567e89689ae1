//! Texts in grammars.

use serde_json::Value;

/// A text as a literal of Lark.
pub(crate) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}
