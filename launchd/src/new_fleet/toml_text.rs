//! Texts of an operator in fleet.toml.

/// A text that can be in a TOML string and in a comment.
pub(crate) fn printable(text: &str) -> Result<String, String> {
    match text.chars().any(char::is_control) {
        true => Err(format!("{text:?} has control characters; leave them out")),
        false => Ok(text.trim().to_owned()),
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}
