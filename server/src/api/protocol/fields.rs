//! Taking a client's body apart.

use serde_json::{Map, Value};

use super::TranslationError;
use crate::api::client_path::Path;

/// The top-level fields of a body that are still to be translated.
#[derive(Debug)]
pub(crate) struct ProtocolFields {
    map: Map<String, Value>,
    /// The names that were taken, present or not.
    known: Vec<&'static str>,
}

impl ProtocolFields {
    /// The fields of a body.
    pub(crate) fn new(body: Map<String, Value>) -> Self {
        Self {
            map: body,
            known: Vec::new(),
        }
    }

    /// A field that is present and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Takes a field that is present and not null.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field that is an object if it is present.
    pub(crate) fn take_object(
        &mut self,
        name: &'static str,
    ) -> Result<Map<String, Value>, TranslationError> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(_) => Err(TranslationError::must_be(&Path::root(name), "an object")),
        }
    }

    /// Takes a field that is an array if it is present.
    pub(crate) fn take_array(
        &mut self,
        name: &'static str,
    ) -> Result<Vec<Value>, TranslationError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(TranslationError::must_be(&Path::root(name), "an array")),
        }
    }

    /// Takes a boolean that is `default` if it is absent.
    pub(crate) fn take_bool(
        &mut self,
        name: &'static str,
        default: bool,
    ) -> Result<bool, TranslationError> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(value),
            Some(_) => Err(TranslationError::must_be(
                &Path::root(name),
                "true or false",
            )),
        }
    }

    /// Discards fields that have no effect here, by design and without a report.
    pub(crate) fn discard(&mut self, names: &[&'static str]) {
        for &name in names {
            self.take(name);
        }
    }

    /// Discards fields that a client might expect an effect of, and reports those that are set to one: present, and
    /// neither null, false, 0 nor empty.
    pub(crate) fn discard_reported(&mut self, names: &[&'static str], ignored: &mut Vec<String>) {
        for &name in names {
            if self.take(name).is_some_and(|value| !is_unset(&value)) {
                ignored.push(name.to_owned());
            }
        }
    }

    /// Passes all remaining fields on under their own names, and returns the names of those that were taken. A field whose
    /// place in the chat body is taken by a translated one is reported instead. Null ones are dropped.
    pub(crate) fn pass_on(
        self,
        chat: &mut Map<String, Value>,
        ignored: &mut Vec<String>,
    ) -> Vec<&'static str> {
        for (name, value) in self.map {
            if value.is_null() {
                continue;
            }
            if chat.contains_key(&name) {
                ignored.push(name);
            } else {
                chat.insert(name, value);
            }
        }
        self.known
    }

    /// Refuses fields of chat completions that the client's protocol has no answer for.
    pub(crate) fn refuse_chat_only(
        &mut self,
        protocol_input: &str,
    ) -> Result<(), TranslationError> {
        if self.take("n").is_some_and(|n| n.as_f64() != Some(1.0)) {
            let path = Path::root("n");
            return Err(TranslationError::unsupported(
                &path,
                "there is one answer; remove it",
            ));
        }
        if protocol_input != "messages" && self.take("messages").is_some() {
            let path = Path::root("messages");
            let fix = format!("send `{protocol_input}`, or use POST /v1/chat/completions");
            return Err(TranslationError::unsupported(&path, &fix));
        }
        Ok(())
    }
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// A required string member of an object.
pub(crate) fn text<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    path: &Path,
) -> Result<&'a str, TranslationError> {
    match object.get(name) {
        None | Some(Value::Null) => Err(TranslationError::missing(&path.field(name))),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(TranslationError::must_be(&path.field(name), "a string")),
    }
}

/// A value that must be an object.
pub(crate) fn required_object<'a>(
    value: &'a Value,
    path: &Path,
) -> Result<&'a Map<String, Value>, TranslationError> {
    value
        .as_object()
        .ok_or_else(|| TranslationError::must_be(path, "an object"))
}
