//! The JSON form of a call: `{"name": …, "arguments": {…}}`.
//!
//! Its keys come in any order, and what follows the name may not be arguments at all. So it is held until its object
//! closes, and then is a call or is not. [`ObjectScanner`] finds that place while the text arrives.

use super::literal::{MAX_DEPTH, Syntax, members, quote, string};
use super::schema::Functions;

/// The keys that hold the arguments.
const ARGUMENTS: [&str; 4] = ["arguments", "parameters", "args", "input"];

/// What an object is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    /// A call of a declared function.
    Call {
        /// The function's name.
        name: String,
        /// A JSON object.
        arguments: String,
    },
    /// JSON, but not a call.
    Other,
    /// Not JSON.
    Malformed,
}

/// The scanner's state after a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The object is still open.
    Open,
    /// The object ends after so many bytes of the text.
    Closed(usize),
    /// It cannot become JSON, because of the character at this place in the text.
    Malformed(usize),
}

/// Finds the end of an object in text that arrives in pieces.
///
/// Outside of strings it refuses `<` and `\`. Two scans that begin at different `<tool_call>` tags therefore disagree
/// on what is a string, and at most two can be under way at any place of the output: to scan again after a failure
/// is linear.
#[derive(Clone, Debug, Default)]
pub(super) struct ObjectScanner {
    held: String,
    /// How many brackets are open, and which of them are braces: the innermost is the lowest bit.
    depth: usize,
    braces: u128,
    in_string: bool,
    escaped: bool,
    /// A colon has come outside of strings: there may be a member.
    colon: bool,
}

impl ObjectScanner {
    /// Reads more text, up to the object's end.
    pub(super) fn push(&mut self, text: &str) -> Scan {
        for (at, c) in text.char_indices() {
            if !self.step(c) {
                self.held.push_str(&text[..at]);
                return Scan::Malformed(at);
            }
            if self.depth == 0 {
                let end = at + c.len_utf8();
                self.held.push_str(&text[..end]);
                return Scan::Closed(end);
            }
        }
        self.held.push_str(text);
        Scan::Open
    }

    fn step(&mut self, c: char) -> bool {
        if self.in_string {
            self.in_string = self.escaped || c != '"';
            self.escaped = !self.escaped && c == '\\';
            return true;
        }
        match c {
            '"' => self.in_string = true,
            '{' | '[' if self.depth == MAX_DEPTH => return false,
            '{' | '[' => {
                self.depth += 1;
                self.braces = self.braces << 1 | u128::from(c == '{');
            }
            '}' | ']' => {
                let matches = (self.braces & 1 == 1) == (c == '}');
                self.depth -= 1;
                self.braces >>= 1;
                return matches;
            }
            ':' => self.colon = true,
            ' ' | '\t' | '\r' | '\n' | ',' | '+' | '-' | '.' | '0'..='9' => {}
            'a'..='z' | 'A'..='Z' => {}
            _ => return false,
        }
        true
    }

    /// Whether a tag here is part of a string.
    pub(super) fn in_string(&self) -> bool {
        self.in_string
    }

    /// The call that the object is, if nothing but its last bracket is missing; else it is malformed.
    pub(super) fn repaired(&self, functions: &mut Functions) -> ObjectKind {
        if self.in_string || self.depth != 1 || !self.colon {
            return ObjectKind::Malformed;
        }
        match kind(&format!("{}}}", self.held), functions) {
            ObjectKind::Other => ObjectKind::Malformed,
            kind => kind,
        }
    }

    /// What the closed object is.
    pub(super) fn kind(&self, functions: &mut Functions) -> ObjectKind {
        kind(&self.held, functions)
    }

    /// The text that was read.
    pub(super) fn into_text(self) -> String {
        self.held
    }
}

/// What a complete object is.
pub(super) fn kind(text: &str, functions: &mut Functions) -> ObjectKind {
    let Some(members) = members(text, Syntax::Json) else {
        return ObjectKind::Malformed;
    };
    let find = |key: &str| {
        let mut found = members.iter().rev().filter(|(name, _)| name == key);
        found.next().map(|(_, json)| json.as_str())
    };
    let name = find("name").and_then(string);
    let Some(name) = name.filter(|name| functions.declares(name)) else {
        return ObjectKind::Other;
    };
    let arguments = match ARGUMENTS.into_iter().find_map(find) {
        // A model that leaves the key out may have put the arguments beside the name.
        None => members
            .into_iter()
            .filter(|(key, _)| key != "name" && functions.has_property(&name, key))
            .collect(),
        Some("null") => Vec::new(),
        Some(json) => match arguments(json) {
            Some(arguments) => arguments,
            None => return ObjectKind::Other,
        },
    };
    let arguments = object(&name, arguments, functions);
    ObjectKind::Call { name, arguments }
}

/// The members of an object, or of the object that a string holds.
fn arguments(json: &str) -> Option<Vec<(String, String)>> {
    let text = string(json);
    let text = text.as_deref().unwrap_or(json);
    members(text, Syntax::Json).or_else(|| members(text, Syntax::Python))
}

/// The arguments as a JSON object, each fitted to its type.
fn object(function: &str, arguments: Vec<(String, String)>, functions: &mut Functions) -> String {
    let mut object = String::from("{");
    for (name, json) in arguments {
        if object.len() > 1 {
            object.push(',');
        }
        let types = functions.types(function, &name);
        // A property that the schema does not list keeps the type that the model gave it.
        let listed = functions.has_property(function, &name);
        object.push_str(&quote(&name));
        object.push(':');
        object.push_str(&if listed { types.fit(json) } else { json });
    }
    object.push('}');
    object
}

/// Reads one JSON object between a function's tags as its arguments.
pub(super) fn bare_arguments(
    function: &str,
    text: &str,
    functions: &mut Functions,
) -> Option<String> {
    let arguments = members(text, Syntax::Json)?;
    Some(object(function, arguments, functions))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn functions() -> Functions {
        Functions::new(&[json!({"name": "f", "parameters": {"properties": {
            "n": {"type": "integer"}, "name": {"type": "string"}
        }}})])
    }

    fn call(arguments: &str) -> ObjectKind {
        ObjectKind::Call {
            name: "f".into(),
            arguments: arguments.into(),
        }
    }

    #[test]
    fn every_key_for_arguments_is_read() {
        for key in ARGUMENTS {
            let text = format!(r#"{{"{key}": {{"n": 5.0, "x": "</tool_call>"}}, "name": "f"}}"#);
            assert_eq!(
                kind(&text, &mut functions()),
                call(r#"{"n":5,"x":"</tool_call>"}"#)
            );
        }
    }

    #[test]
    fn arguments_in_a_string_are_parsed_again() {
        let text = r#"{"name": "f", "arguments": "{\"n\": 12345678901234567890123}"}"#;
        assert_eq!(
            kind(text, &mut functions()),
            call(r#"{"n":12345678901234567890123}"#)
        );
    }

    #[test]
    fn missing_arguments_are_an_empty_object() {
        assert_eq!(kind(r#"{"name": "f"}"#, &mut functions()), call("{}"));
        assert_eq!(
            kind(r#"{"name": "f", "arguments": null}"#, &mut functions()),
            call("{}")
        );
        assert_eq!(
            kind(r#"{"name": "f", "id": 1, "n": 2}"#, &mut functions()),
            call(r#"{"n":2}"#)
        );
    }

    #[test]
    fn object_that_is_not_a_call_is_other() {
        for text in [
            r#"{"name": "f", "arguments": 3}"#,
            r#"{"name": "g", "arguments": {}}"#,
            r#"{"name": 1}"#,
            "{}",
        ] {
            assert_eq!(kind(text, &mut functions()), ObjectKind::Other, "{text}");
        }
        assert_eq!(kind("{1}", &mut functions()), ObjectKind::Malformed);
    }

    #[test]
    fn scanner_finds_the_end_of_the_object() {
        let scan = |text: &str| ObjectScanner::default().push(text);
        assert_eq!(scan(r#"{"a": "}\"}"} x"#), Scan::Closed(13));
        assert_eq!(scan(r#"{"a": [{}"#), Scan::Open);
        assert_eq!(scan("{]"), Scan::Malformed(1));
        assert_eq!(scan("{ <"), Scan::Malformed(2));
        assert!(matches!(scan(&"{".repeat(1000)), Scan::Malformed(_)));
    }
}
