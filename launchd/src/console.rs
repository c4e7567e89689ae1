//! The output of a command: lines for operators while it works, or one JSON object at the end.
//!
//! Servers, other hosts and tools contribute to these lines, so control characters are escaped.

use std::io::{self, Write};

use sanctum_config::{UntrustedText, terminal_json};
use serde_json::{Value, json};

/// The output of a command.
pub(crate) struct Console<'a> {
    out: &'a mut dyn Write,
    json: bool,
    /// Whether the command only prints what it would do.
    pub(crate) dry_run: bool,
    /// Whether the command continues if its output is closed.
    ignores_closed: bool,
    /// The steps and notes of the JSON object.
    entries: Vec<Value>,
}

impl<'a> Console<'a> {
    /// Writes to `out`.
    pub(crate) fn new(out: &'a mut dyn Write, json: bool, dry_run: bool) -> Self {
        Self {
            out,
            json,
            dry_run,
            ignores_closed: false,
            entries: Vec::new(),
        }
    }

    /// From here on, the command continues if its output is closed, as `head` does, or its terminal.
    pub(crate) fn ignore_closed_output(&mut self) {
        self.ignores_closed = true;
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let line = UntrustedText::multiline(line);
        let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        written.or_else(|error| {
            if self.ignores_closed {
                Ok(())
            } else {
                Err(error)
            }
        })
    }

    /// A step that is taken now; in a dry run, that would be taken.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn step(&mut self, step: &str, what: &str) -> io::Result<()> {
        if self.json {
            self.entries.push(json!({ "step": step, "what": what }));
            return Ok(());
        }
        let would = if self.dry_run { "would " } else { "" };
        self.line(&format!("{would}{what}"))
    }

    /// A line of information.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn note(&mut self, what: &str) -> io::Result<()> {
        if self.json {
            self.entries.push(json!({ "note": what }));
            return Ok(());
        }
        self.line(what)
    }

    /// The last line, or the JSON object: `result` with the last line, the steps and the notes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn end(&mut self, line: &str, mut result: Value) -> io::Result<()> {
        if !self.json {
            return writeln!(self.out, "{}", UntrustedText::multiline(line));
        }
        result["summary"] = line.into();
        result["dry_run"] = self.dry_run.into();
        result["steps"] = std::mem::take(&mut self.entries).into();
        writeln!(self.out, "{}", terminal_json(&format!("{result:#}")))
    }

    /// For output that is written unchanged: a table, a property list.
    pub(crate) fn raw(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Whether the output is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_with_control_characters_is_escaped_in_text_and_json() {
        for json in [false, true] {
            let mut out = Vec::new();
            let mut console = Console::new(&mut out, json, false);
            console.note("answered \x1b]0;x\x07\u{202e}4").unwrap();
            console.step("write", "a\u{9b}b").unwrap();
            console.end("done\x7f", json!({ "a": "\u{2066}" })).unwrap();
            let text = String::from_utf8(out).unwrap();
            let is_control =
                |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2066}".contains(c));
            assert!(!text.contains(is_control), "{text:?}");
            if json {
                let page: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(page["a"], "\u{2066}");
            }
        }
    }
}
