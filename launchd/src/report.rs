//! What a command says while it works: lines for people as things happen, or one JSON object at the end.
//!
//! Servers, other hosts and tools have a say in these lines, so no control character of theirs is printed.

use std::io::{self, Write};

use sanctum_config::{UntrustedText, terminal_json};
use serde_json::{Value, json};

/// Where a command's words go.
pub struct Report<'a> {
    out: &'a mut dyn Write,
    json: bool,
    /// Whether nothing is done, only said.
    pub dry_run: bool,
    /// Whether work is under way that must come to its end though nobody reads about it any more.
    goes_on: bool,
    said: Vec<Value>,
}

impl<'a> Report<'a> {
    /// Words go to `out`.
    pub fn new(out: &'a mut dyn Write, json: bool, dry_run: bool) -> Self {
        Self {
            out,
            json,
            dry_run,
            goes_on: false,
            said: Vec::new(),
        }
    }

    /// From here on a reader who leaves, as `head` does, or a terminal that is closed, stops nothing.
    pub fn go_on_unheard(&mut self) {
        self.goes_on = true;
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let line = UntrustedText::multiline(line);
        let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        written.or_else(|error| if self.goes_on { Ok(()) } else { Err(error) })
    }

    /// Something that is done now, or would be.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn step(&mut self, step: &str, what: &str) -> io::Result<()> {
        if self.json {
            self.said.push(json!({ "step": step, "what": what }));
            return Ok(());
        }
        let would = if self.dry_run { "would " } else { "" };
        self.line(&format!("{would}{what}"))
    }

    /// Something to know.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&mut self, what: &str) -> io::Result<()> {
        if self.json {
            self.said.push(json!({ "note": what }));
            return Ok(());
        }
        self.line(what)
    }

    /// The end: a line for people, and for machines an object with everything that was said.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&mut self, line: &str, mut result: Value) -> io::Result<()> {
        if !self.json {
            return writeln!(self.out, "{}", UntrustedText::multiline(line));
        }
        result["summary"] = line.into();
        result["dry_run"] = self.dry_run.into();
        result["steps"] = std::mem::take(&mut self.said).into();
        writeln!(self.out, "{}", terminal_json(&format!("{result:#}")))
    }

    /// What goes out as it is: a table, a property list.
    pub fn raw(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Whether machines read it.
    pub fn is_json(&self) -> bool {
        self.json
    }
}

/// The same value with every text in it, the names of fields included, safe to show on a terminal.
pub fn made_safe(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(UntrustedText::new(&text).into()),
        Value::Array(values) => values.into_iter().map(made_safe).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (UntrustedText::new(&name).to_string(), made_safe(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_with_control_characters_is_escaped_in_names_and_values() {
        let said = json!({ "a\u{1b}": ["\u{1b}]0;owned\u{7}", 1], "b": null });
        let safe = r#"{"a\\u{1b}":["\\u{1b}]0;owned\\u{7}",1],"b":null}"#;
        assert_eq!(made_safe(said).to_string(), safe);
    }

    #[test]
    fn report_with_control_characters_is_escaped_in_text_and_json() {
        for json in [false, true] {
            let mut out = Vec::new();
            let mut report = Report::new(&mut out, json, false);
            report.note("answered \x1b]0;x\x07\u{202e}4").unwrap();
            report.step("write", "a\u{9b}b").unwrap();
            report.end("done\x7f", json!({ "a": "\u{2066}" })).unwrap();
            let text = String::from_utf8(out).unwrap();
            let steers = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2066}".contains(c));
            assert!(!text.contains(steers), "{text:?}");
            if json {
                let page: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(page["a"], "\u{2066}");
            }
        }
    }
}
