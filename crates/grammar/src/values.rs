//! The value of a parameter, as its schema has it.
//!
//! A string is written raw, so its schema cannot be given to the compiler of JSON schemas, which would expect quotes: the
//! strings that it accepts ([`crate::strings`]) are one terminal here, closing tag included. The lexer is greedy, so a
//! terminal without its closing tag would run over it. Every other value is JSON.
//!
//! What is written is read again by its text ([`crate::reading`]). So where a schema accepts strings and other values, a
//! string must not be read as a value that the schema refuses, and the two must not begin alike.

use std::cell::RefCell;

use serde_json::{Value, json};

use crate::GrammarError;
use crate::parameters::Parameters;
use crate::reading::{JsonType, Reading};
use crate::references::References;
use crate::schema::Schema;
use crate::strings::{StringReader, Strings};

/// The end of a value.
const END: &str = "\"\\n</parameter>\\n\"";
/// What a value must not have inside: its end, but for the line break behind it.
const INSIDE: &str = "~/(?s:.*)\\n<\\/parameter>(?s:.*)/";

/// A parameter of a function.
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) required: bool,
    /// The right side of a rule of Lark, closing tag included.
    pub(crate) value: String,
}

/// The parameters of a schema.
pub(crate) struct ParameterValues<'a> {
    schema: &'a Schema,
    references: References<'a>,
    strict: bool,
    /// The prefix of the terminals' names.
    prefix: String,
    /// The terminals that the values use, as rules of Lark.
    terminals: RefCell<Vec<String>>,
}

impl<'a> ParameterValues<'a> {
    pub(crate) fn new(schema: &'a Schema, strict: bool, prefix: String) -> Self {
        Self {
            references: References::new(schema.root()),
            schema,
            strict,
            prefix,
            terminals: RefCell::default(),
        }
    }

    /// The terminals that the values use, as rules of Lark.
    pub(crate) fn terminals(self) -> Vec<String> {
        self.terminals.into_inner()
    }

    /// The parameters, in the schema's order, and whether the schema names none and allows any.
    ///
    /// # Errors
    /// A keyword that cannot be enforced, if the function is strict.
    pub(crate) fn parameters(&self) -> Result<(Vec<Parameter>, bool), GrammarError> {
        let declared = Parameters::read(self.schema, self.references, self.strict)?;
        let mut parameters = Vec::new();
        for (name, schema, path) in &declared.listed {
            let required = declared.required.contains(name);
            match self.value(schema, path)? {
                Some(value) => parameters.push(Parameter {
                    name: name.clone(),
                    required,
                    value,
                }),
                // A parameter without values is never written.
                None if required => {
                    return Err(GrammarError::Refused {
                        path: path.clone(),
                        reason: "it is required, and its schema accepts no value".into(),
                    });
                }
                None => {}
            }
        }
        Ok((parameters, declared.is_open_ended))
    }

    /// The right side of a rule for a value, closing tag included; none if the schema accepts none.
    fn value(&self, schema: &Value, path: &str) -> Result<Option<String>, GrammarError> {
        match self.enforced(schema, path) {
            // What cannot be enforced is left out.
            Ok(None) | Err(_) if !self.strict => Ok(Some("text".into())),
            enforced => enforced,
        }
    }

    fn enforced(&self, schema: &Value, path: &str) -> Result<Option<String>, GrammarError> {
        let reading = Reading::new(self.references);
        let strings = StringReader::new(self.references).strings(schema, path)?;
        let read = reading.types(schema);
        let is_read = |kind: &JsonType| read.kinds.contains(kind);
        let unsafe_kinds: Vec<JsonType> = read
            .kinds
            .iter()
            .copied()
            .filter(|kind| !reading.accepts_all(schema, &read, *kind))
            .collect();
        if strings == Strings::All && unsafe_kinds.is_empty() {
            return Ok(Some("text".into()));
        }
        let kinds = JsonType::ALL.into_iter().filter(is_read);
        let kinds: Vec<JsonType> = kinds
            .filter(|kind| reading.accepts_some(schema, *kind))
            .collect();
        let mut alternatives = Vec::new();
        if strings == Strings::None {
            if !kinds.is_empty() {
                alternatives.push(self.json(schema, &kinds));
            }
        } else {
            // Null, true and false are part of the terminal, so that a string may begin like them.
            let is_word = |kind: &JsonType| matches!(kind, JsonType::Null | JsonType::Boolean);
            let (words, others): (Vec<_>, Vec<_>) = kinds.into_iter().partition(is_word);
            let mut excluded = unsafe_kinds;
            excluded.extend(&others);
            let words = [Value::Null, json!(true), json!(false)]
                .into_iter()
                .filter(|word| words.iter().any(|kind| kind.is_of(word)))
                .filter(|word| reading.accepts_word(schema, word));
            alternatives.push(self.terminal(&strings, &excluded, words));
            if !others.is_empty() {
                alternatives.push(self.json(schema, &others));
            }
        }
        Ok((!alternatives.is_empty()).then(|| alternatives.join(" | ")))
    }

    /// The values of these types as JSON.
    fn json(&self, schema: &Value, kinds: &[JsonType]) -> String {
        let names: Vec<&str> = kinds
            .iter()
            .flat_map(|kind| kind.names())
            .copied()
            .collect();
        let has_strings = Reading::new(self.references).may_be_string(schema);
        let object = match schema {
            Value::Object(object) if !has_strings => object.clone(),
            schema => {
                let restricted = json!({ "type": names, "allOf": [schema] });
                restricted.as_object().cloned().unwrap_or_default()
            }
        };
        let object = self.references.with_definitions(object);
        let operand = Schema::embedded(&Value::Object(object), !self.strict);
        format!("%json {operand} {END}")
    }

    /// A terminal for strings that are not read as a value of the `excluded` types, and for words.
    fn terminal(
        &self,
        strings: &Strings,
        excluded: &[JsonType],
        words: impl Iterator<Item = Value>,
    ) -> String {
        let mut text = match strings.expression() {
            Some(expression) => format!("{expression} & {INSIDE}"),
            // The complement alone has texts that are no UTF-8, which the lexer would go on waiting for.
            None => format!("/(?s:.*)/ & {INSIDE}"),
        };
        // One that is listed is read as the string whatever its text.
        if !strings.is_listed() {
            for kind in JsonType::ALL
                .into_iter()
                .filter(|kind| excluded.contains(kind))
            {
                let beginning = llguidance::regex_to_lark(kind.beginning(), "");
                text += &format!(" & ~/{beginning}/");
            }
        }
        let mut alternatives = vec![format!("({text})")];
        alternatives.extend(words.map(|word| format!("\"{word}\"")));
        let mut known = self.terminals.borrow_mut();
        let name = format!("{}_{}", self.prefix, known.len());
        known.push(format!("{name}: ({}) {END}", alternatives.join(" | ")));
        name
    }
}
