//! What a command says while it works: lines for people as things happen, or one JSON object at the end.

use std::io::{self, Write};

use serde_json::{Value, json};

/// Where a command's words go.
pub struct Report<'a> {
    out: &'a mut dyn Write,
    json: bool,
    /// Whether nothing is done, only said.
    pub dry_run: bool,
    said: Vec<Value>,
}

impl<'a> Report<'a> {
    /// Words go to `out`.
    pub fn new(out: &'a mut dyn Write, json: bool, dry_run: bool) -> Self {
        Self {
            out,
            json,
            dry_run,
            said: Vec::new(),
        }
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
        writeln!(self.out, "{would}{what}")?;
        self.out.flush()
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
        writeln!(self.out, "{what}")?;
        self.out.flush()
    }

    /// The end: a line for people, and for machines an object with everything that was said.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&mut self, line: &str, mut result: Value) -> io::Result<()> {
        if !self.json {
            return writeln!(self.out, "{line}");
        }
        result["summary"] = line.into();
        result["dry_run"] = self.dry_run.into();
        result["steps"] = std::mem::take(&mut self.said).into();
        writeln!(self.out, "{result:#}")
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
