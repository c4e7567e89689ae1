//! The input of a `tool_use` block, read from the text of its arguments.

use serde_json::{Map, Value};

/// The JSON object in `arguments`. Of text that was cut, or is no JSON object, the object has the leading members that
/// are complete. So a plain answer shows what a client that reads the stream could have parsed.
pub(crate) fn parse(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(object @ Value::Object(_)) => object,
        _ => complete_members(arguments).unwrap_or_else(|| Map::new().into()),
    }
}

/// The object up to the last comma between its own members.
fn complete_members(text: &str) -> Option<Value> {
    let mut depth = 0usize;
    let mut in_string = false;
    let mut is_escaped = false;
    let mut last_comma = None;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => last_comma = Some(at),
            _ => {}
        }
    }
    let complete = &text[..last_comma?];
    let object = serde_json::from_str(&format!("{complete}}}")).ok()?;
    matches!(object, Value::Object(_)).then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_cut_arguments_complete_members_remain() {
        for (arguments, input) in [
            (
                r#"{"a": 1, "b": [2, {"c": ","}]}"#,
                r#"{"a":1,"b":[2,{"c":","}]}"#,
            ),
            (r#"{"a": "x, \", y", "b": "cu"#, r#"{"a":"x, \", y"}"#),
            (r#"{"a": [1, 2], "b": {"c": 3, "d""#, r#"{"a":[1,2]}"#),
            (r#"{"a": 1"#, "{}"),
            ("", "{}"),
            ("[1, 2]", "{}"),
            ("nonsense, {", "{}"),
        ] {
            assert_eq!(parse(arguments).to_string(), input, "{arguments}");
        }
    }
}
