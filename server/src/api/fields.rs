//! The fields of a JSON body, taken one by one, with errors that name the field.
//!
//! A request is parsed once: a value that was taken has its type and is within its range. `null` is the same as an absent
//! field, as in OpenAI's API. A field that is not taken is an error too, since a misspelt `temprature` would otherwise
//! silently change nothing.

use std::ops::RangeInclusive;

use sanctum_config::did_you_mean;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::json::{JsonBudget, Malformed};

/// Fields of other servers that are spelt right although they look like a field of these APIs: Ollama's, Cerebras's,
/// text-generation-webui's, OpenRouter's.
const OF_OTHER_SERVERS: [&str; 6] = [
    "context",
    "images",
    "min_completion_tokens",
    "min_new_tokens",
    "mode",
    "top_a",
];
/// Unknown fields that an object may have: each is compared with all known ones.
const MOST_UNKNOWN: usize = 256;

/// The fields of an object that are still to be taken.
pub(crate) struct JsonFields {
    path: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
    /// What parsing the body has left of the limits; complete for the fields of nested objects.
    budget: JsonBudget,
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct JsonField {
    path: String,
    value: Value,
}

impl JsonFields {
    /// Parses a body, which must be a JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut budget = JsonBudget::default();
        match budget.parse(body, "") {
            Ok(Value::Object(map)) => Ok(Self {
                budget,
                ..Self::of(String::new(), map)
            }),
            Ok(_) => Err(ApiError::bad_request("the body must be a JSON object")),
            Err(Malformed::Refused(refusal)) => Err(refusal),
            Err(Malformed::Syntax(error)) => Err(ApiError::bad_request(format!(
                "the body is not valid JSON: {error}"
            ))),
        }
    }

    /// The fields and what is left of the limits, for a protocol that translates them.
    pub(crate) fn into_parts(self) -> (Map<String, Value>, JsonBudget) {
        (self.map, self.budget)
    }

    /// Translated fields of a body with so much left of the limits. `known` are the fields that the translation took.
    pub(crate) fn from_parts(
        map: Map<String, Value>,
        budget: JsonBudget,
        known: Vec<&'static str>,
    ) -> Self {
        Self {
            budget,
            known,
            ..Self::of(String::new(), map)
        }
    }

    /// The limits on the JSON in the body's strings.
    pub(crate) fn take_budget(&mut self) -> JsonBudget {
        std::mem::take(&mut self.budget)
    }

    fn of(path: String, map: Map<String, Value>) -> Self {
        Self {
            path,
            map,
            known: Vec::new(),
            budget: JsonBudget::default(),
        }
    }

    /// Whether a field is present, null or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Whether a field is present and not null.
    pub(crate) fn has_value(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a field, if it is present and not null.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<JsonField> {
        self.known.push(name);
        let value = self.map.remove(name)?;
        let path = self.path_of(name);
        (!value.is_null()).then_some(JsonField { path, value })
    }

    /// Takes a required field.
    pub(crate) fn need(&mut self, name: &'static str) -> Result<JsonField, ApiError> {
        let path = self.path_of(name);
        let missing = || ApiError::invalid(path.as_str(), format!("`{path}` is missing or null"));
        self.take(name).ok_or_else(missing)
    }

    /// Takes fields that have no effect, whatever their value.
    pub(crate) fn ignore(&mut self, names: &[&'static str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Refuses a field that would change the answer, unless it has the value that has no effect.
    pub(crate) fn refuse(
        &mut self,
        name: &'static str,
        harmless: impl Fn(&Value) -> bool,
        why: &str,
    ) -> Result<(), ApiError> {
        match self.take(name) {
            Some(field) if !harmless(&field.value) => Err(ApiError::unsupported(field.path, why)),
            _ => Ok(()),
        }
    }

    /// Refuses a field that looks like a known one, and returns the paths of all others that were not taken: they have no
    /// effect.
    pub(crate) fn finish(mut self) -> Result<Vec<String>, ApiError> {
        self.map.retain(|_, value| !value.is_null());
        let count = self.map.len();
        if count > MOST_UNKNOWN {
            let place = match self.path.as_str() {
                "" => "the body".to_owned(),
                path => format!("`{path}`"),
            };
            let message = format!(
                "{place} has {count} fields that this server does not know; it ignores {MOST_UNKNOWN} at most: remove them"
            );
            return Err(ApiError::bad_request(message).with_code("unknown_parameter"));
        }
        for name in self.map.keys() {
            if OF_OTHER_SERVERS.contains(&name.as_str()) {
                continue;
            }
            let near = did_you_mean(name, self.known.iter().copied());
            if !near.is_empty() {
                return Err(ApiError::unknown_field(&self.path_of(name), &near));
            }
        }
        let mut paths: Vec<String> = self.map.keys().map(|name| self.path_of(name)).collect();
        paths.sort_unstable();
        Ok(paths)
    }

    /// Refuses every field that was not taken: for operators' requests, which have no fields of other servers.
    pub(crate) fn finish_exact(self) -> Result<(), ApiError> {
        match self.finish()?.first() {
            None => Ok(()),
            Some(path) => Err(ApiError::unknown_field(path, "")),
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

impl JsonField {
    /// Its place, such as `messages[1].content`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its value.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// An error about this field: "`path` must be {what}, not {value}".
    pub(crate) fn must_be(&self, what: &str) -> ApiError {
        let path = &self.path;
        ApiError::invalid(
            path.as_str(),
            format!("`{path}` must be {what}, not {}", shown(&self.value)),
        )
    }

    /// A string.
    pub(crate) fn string(self) -> Result<String, ApiError> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.must_be("a string")),
        }
    }

    /// `true` or `false`.
    pub(crate) fn bool(self) -> Result<bool, ApiError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.must_be("true or false"))
    }

    /// A whole number within a range; `3.0` is one as well.
    pub(crate) fn integer(self, range: RangeInclusive<i64>) -> Result<i64, ApiError> {
        let whole = |number: f64| {
            // Above 2^53 a float may be any of several integers: those must be written without a point.
            (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0)
                .then_some(number as i64)
        };
        let number = self
            .value
            .as_i64()
            .or_else(|| self.value.as_f64().and_then(whole));
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| match (*range.start(), *range.end()) {
                (i64::MIN, i64::MAX) => self.must_be("a whole number"),
                (from, i64::MAX) => self.must_be(&format!("a whole number from {from}")),
                (from, to) => self.must_be(&format!("a whole number from {from} to {to}")),
            })
    }

    /// A number within a range.
    pub(crate) fn number(self, range: RangeInclusive<f64>) -> Result<f32, ApiError> {
        match self.value.as_f64() {
            Some(number) if range.contains(&number) => Ok(number as f32),
            _ => Err(self.must_be(&format!(
                "a number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    /// The elements of an array.
    pub(crate) fn array(self) -> Result<Vec<JsonField>, ApiError> {
        match self.value {
            Value::Array(values) => Ok(values
                .into_iter()
                .enumerate()
                .map(|(index, value)| JsonField {
                    path: format!("{}[{index}]", self.path),
                    value,
                })
                .collect()),
            _ => Err(self.must_be("an array")),
        }
    }

    /// The elements of an array, each of which `simple` reads, or `odd` reads or refuses by its place. There may be a
    /// million token ids, and a place for each would cost more memory than they do.
    pub(crate) fn elements<T>(
        self,
        simple: impl Fn(&Value) -> Option<T>,
        odd: impl Fn(JsonField) -> Result<T, ApiError>,
    ) -> Result<Vec<T>, ApiError> {
        let Value::Array(values) = self.value else {
            return Err(self.must_be("an array"));
        };
        let element = |(index, value): (usize, Value)| match simple(&value) {
            Some(element) => Ok(element),
            None => odd(JsonField {
                path: format!("{}[{index}]", self.path),
                value,
            }),
        };
        values.into_iter().enumerate().map(element).collect()
    }

    /// The members of an object, as they are.
    pub(crate) fn map(self) -> Result<Map<String, Value>, ApiError> {
        match self.value {
            Value::Object(map) => Ok(map),
            _ => Err(self.must_be("an object")),
        }
    }

    /// The members of an object whose keys are data, such as `logit_bias`.
    pub(crate) fn members(self) -> Result<Vec<(String, JsonField)>, ApiError> {
        let path = self.path.clone();
        let named = |(key, value)| {
            let path = format!("{path}.{key}");
            (key, JsonField { path, value })
        };
        Ok(self.map()?.into_iter().map(named).collect())
    }

    /// The fields of an object.
    pub(crate) fn object(self) -> Result<JsonFields, ApiError> {
        match self.value {
            Value::Object(map) => Ok(JsonFields::of(self.path, map)),
            _ => Err(self.must_be("an object")),
        }
    }
}

/// A value as an error message shows it: whole if short, its kind otherwise.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
        Value::String(text) if text.chars().count() > 40 => "a string".into(),
        short => short.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> JsonFields {
        JsonFields::parse(body.as_bytes()).unwrap()
    }

    fn message<T>(result: Result<T, ApiError>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn body_that_is_no_object_is_refused_with_the_position() {
        let parse = |body: &str| message(JsonFields::parse(body.as_bytes()));
        assert!(parse("{\n  \"a\": ,\n}").contains("line 2 column 8"));
        assert_eq!(parse("[]"), "the body must be a JSON object");
        assert!(parse("").contains("not valid JSON"));
        assert!(parse(&"[".repeat(100_000)).contains("recursion limit"));
    }

    #[test]
    fn errors_name_the_field_and_show_the_value() {
        let mut body = fields(r#"{"a": "hot", "b": {"c": [1, {"d": 9}]}}"#);
        assert_eq!(
            message(body.take("a").unwrap().number(0.0..=2.0)),
            "`a` must be a number from 0 to 2, not \"hot\""
        );
        let mut inner = body.take("b").unwrap().object().unwrap();
        let second = inner.take("c").unwrap().array().unwrap().remove(1);
        let mut second = second.object().unwrap();
        assert_eq!(
            message(second.take("d").unwrap().integer(1..=8)),
            "`b.c[1].d` must be a whole number from 1 to 8, not 9"
        );
        assert_eq!(message(second.need("e")), "`b.c[1].e` is missing or null");
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_point() {
        let integer = |text: &str| {
            let mut body = fields(&format!("{{\"a\": {text}}}"));
            body.take("a").unwrap().integer(0..=i64::MAX)
        };
        assert_eq!(integer("3.0"), Ok(3));
        assert!(integer("3.5").is_err());
        assert!(integer("1e300").is_err());
        assert!(integer("-1").is_err());
        assert!(integer("\"3\"").is_err());
    }

    #[test]
    fn null_is_absent_and_a_field_that_is_not_taken_is_unknown() {
        let null = fields(r#"{"seed": null, "temprature": null}"#);
        assert_eq!(null.finish(), Ok(Vec::new()));
        let mut body = fields(r#"{"seed": null, "temprature": 0}"#);
        assert!(body.take("seed").is_none());
        assert!(body.take("temperature").is_none());
        assert_eq!(
            message(body.finish()),
            "unknown field `temprature`; did you mean `temperature`?"
        );
    }

    #[test]
    fn refused_field_may_have_the_value_without_effect() {
        let refuse =
            |text: &str| fields(text).refuse("n", |value| *value == 1, "one answer is given");
        assert_eq!(refuse("{}"), Ok(()));
        assert_eq!(refuse(r#"{"n": 1}"#), Ok(()));
        assert_eq!(
            message(refuse(r#"{"n": 2}"#)),
            "`n` is not supported: one answer is given"
        );
    }
}
