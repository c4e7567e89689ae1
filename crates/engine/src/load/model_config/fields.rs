//! The fields of `config.json`, read one by one, so that every error names its field and the value found there.

use serde_json::{Map, Value};

use super::error::{ConfigError, unsupported};

/// An object of `config.json`.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    /// What precedes a field's name in messages, such as `rope_parameters.`.
    prefix: String,
    values: Map<String, Value>,
}

impl Fields {
    /// The root of the file.
    pub(super) fn root(values: Map<String, Value>) -> Self {
        let prefix = String::new();
        Self { prefix, values }
    }

    /// The object `name` in it.
    pub(super) fn named(name: &str, values: Map<String, Value>) -> Self {
        let prefix = format!("{name}.");
        Self { prefix, values }
    }

    /// A field's name in messages.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A field's value. A null says nothing.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// All fields that say something.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.values.iter().filter(|(_, value)| !value.is_null());
        all.map(|(key, value)| (key.as_str(), value))
    }

    /// The error that a field has a value that cannot be used.
    pub(super) fn wrong(&self, key: &str, wanted: &str) -> ConfigError {
        let found = match self.get(key) {
            None => "null".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        unsupported(self.path(key), found, wanted)
    }

    /// The error that a field is not there.
    pub(super) fn missing(&self, key: &str, wanted: &str) -> ConfigError {
        unsupported(self.path(key), "missing", wanted)
    }

    /// A whole number.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let whole = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.read(key, whole, "it must be a whole number")
    }

    /// A whole number that must be there.
    pub(super) fn required_size(&self, key: &str) -> Result<usize, ConfigError> {
        self.size(key)?
            .ok_or_else(|| self.missing(key, "a Qwen3.5 model has it; copy config.json again"))
    }

    /// A finite number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.read(key, Value::as_f64, "it must be a finite number")
    }

    /// True or false.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.read(key, Value::as_bool, "it must be true or false")
    }

    /// Text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        self.read(key, Value::as_str, "it must be text")
    }

    /// An object.
    pub(super) fn object(&self, key: &str) -> Result<Option<Map<String, Value>>, ConfigError> {
        self.read(
            key,
            |value| value.as_object().cloned(),
            "it must be an object",
        )
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        read: impl Fn(&'a Value) -> Option<T>,
        wanted: &str,
    ) -> Result<Option<T>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(key, wanted)),
        }
    }
}

/// The ids in an `eos_token_id`: one, a list, or null for none.
///
/// # Errors
/// With what the value should be.
pub(crate) fn token_ids(value: &Value) -> Result<Vec<u32>, &'static str> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    ids.ok_or("it must be a token id or a list of token ids")
}
