//! Taking a JSON body apart, field by field, with errors that name the field.
//!
//! A request is parsed once, here at the edge: what leaves is typed and within its range. `null` is the same as
//! leaving a field out, as OpenAI has it. A field that nobody took is an error too, since a misspelt `temprature`
//! would otherwise change nothing in silence.

use std::ops::RangeInclusive;

use sanctum_config::did_you_mean;
use serde_json::{Map, Value};

use super::bounded::{Budget, Malformed};
use super::error::ApiError;

/// The fields of an object that are still to be taken.
pub struct Fields {
    path: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
    /// What parsing has left of the limits; whole for the fields of an object within.
    budget: Budget,
}

/// A value and where it stands.
#[derive(Debug)]
pub struct Field {
    path: String,
    value: Value,
}

impl Fields {
    /// Parses a body, which must be a JSON object.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let whole = |message| ApiError::Invalid {
            param: None,
            message,
            code: None,
        };
        let mut budget = Budget::default();
        match budget.parse(body, "") {
            Ok(Value::Object(map)) => Ok(Self {
                budget,
                ..Self::of(String::new(), map)
            }),
            Ok(_) => Err(whole("the body must be a JSON object".into())),
            Err(Malformed::Refused(refusal)) => Err(refusal),
            Err(Malformed::Syntax(error)) => {
                Err(whole(format!("the body is not valid JSON: {error}")))
            }
        }
    }

    /// What the JSON in the body's strings may still have.
    pub fn take_budget(&mut self) -> Budget {
        std::mem::take(&mut self.budget)
    }

    fn of(path: String, map: Map<String, Value>) -> Self {
        Self {
            path,
            map,
            known: Vec::new(),
            budget: Budget::default(),
        }
    }

    /// Whether a field is there, be it null.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Takes a field, if it is there and not null.
    pub fn take(&mut self, name: &'static str) -> Option<Field> {
        self.known.push(name);
        let value = self.map.remove(name)?;
        let path = self.path_of(name);
        (!value.is_null()).then_some(Field { path, value })
    }

    /// Takes a field that must be there.
    pub fn need(&mut self, name: &'static str) -> Result<Field, ApiError> {
        let path = self.path_of(name);
        self.take(name)
            .ok_or_else(|| ApiError::invalid(path.as_str(), format!("`{path}` is missing")))
    }

    /// Takes fields that change nothing here, whatever they hold.
    pub fn ignore(&mut self, names: &[&'static str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Refuses a field that would change the answer unless it holds the value that changes nothing.
    pub fn refuse(
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

    /// Checks that every field was taken.
    pub fn finish(self) -> Result<(), ApiError> {
        let Some(name) = self.map.keys().next() else {
            return Ok(());
        };
        let path = self.path_of(name);
        let shown: String = path.chars().take(80).collect();
        let near = did_you_mean(name, self.known.iter().copied());
        Err(ApiError::Invalid {
            message: format!("unknown field `{shown}`{near}"),
            param: Some(shown),
            code: Some("unknown_parameter"),
        })
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

impl Field {
    /// Where it stands.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it holds.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// An error about this field: "`path` must be {what}, not {value}".
    pub fn must_be(&self, what: &str) -> ApiError {
        let path = &self.path;
        ApiError::invalid(
            path.as_str(),
            format!("`{path}` must be {what}, not {}", shown(&self.value)),
        )
    }

    /// A string.
    pub fn string(self) -> Result<String, ApiError> {
        match self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.must_be("a string")),
        }
    }

    /// `true` or `false`.
    pub fn bool(self) -> Result<bool, ApiError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.must_be("true or false"))
    }

    /// A whole number within a range; `3.0` is one as well.
    pub fn integer(self, range: RangeInclusive<i64>) -> Result<i64, ApiError> {
        let whole = |number: f64| {
            // Above 2^53 a float stands for many integers: those must be written without a point.
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
    pub fn number(self, range: RangeInclusive<f64>) -> Result<f32, ApiError> {
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
    pub fn array(self) -> Result<Vec<Field>, ApiError> {
        match self.value {
            Value::Array(values) => Ok(values
                .into_iter()
                .enumerate()
                .map(|(index, value)| Field {
                    path: format!("{}[{index}]", self.path),
                    value,
                })
                .collect()),
            _ => Err(self.must_be("an array")),
        }
    }

    /// The elements of an array, each of which `simple` reads, or `odd` reads or refuses by its place. Token ids come by the
    /// hundred thousand, and a place for each would cost more than they do.
    pub fn elements<T>(
        self,
        simple: impl Fn(&Value) -> Option<T>,
        odd: impl Fn(Field) -> Result<T, ApiError>,
    ) -> Result<Vec<T>, ApiError> {
        let Value::Array(values) = self.value else {
            return Err(self.must_be("an array"));
        };
        let element = |(index, value): (usize, Value)| match simple(&value) {
            Some(element) => Ok(element),
            None => odd(Field {
                path: format!("{}[{index}]", self.path),
                value,
            }),
        };
        values.into_iter().enumerate().map(element).collect()
    }

    /// The members of an object, as they are.
    pub fn map(self) -> Result<Map<String, Value>, ApiError> {
        match self.value {
            Value::Object(map) => Ok(map),
            _ => Err(self.must_be("an object")),
        }
    }

    /// The members of an object whose keys are data, such as `logit_bias`.
    pub fn members(self) -> Result<Vec<(String, Field)>, ApiError> {
        let path = self.path.clone();
        let named = |(key, value)| {
            let path = format!("{path}.{key}");
            (key, Field { path, value })
        };
        Ok(self.map()?.into_iter().map(named).collect())
    }

    /// The fields of an object.
    pub fn object(self) -> Result<Fields, ApiError> {
        match self.value {
            Value::Object(map) => Ok(Fields::of(self.path, map)),
            _ => Err(self.must_be("an object")),
        }
    }
}

/// A value as an error message shows it: whole if short, its kind otherwise.
fn shown(value: &Value) -> String {
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

    fn fields(body: &str) -> Fields {
        Fields::parse(body.as_bytes()).unwrap()
    }

    fn message<T>(result: Result<T, ApiError>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_with_the_position() {
        let parse = |body: &str| message(Fields::parse(body.as_bytes()));
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
        assert_eq!(message(second.need("e")), "`b.c[1].e` is missing");
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
    fn null_is_absent_and_what_nobody_took_is_unknown() {
        let mut body = fields(r#"{"seed": null, "temprature": 0}"#);
        assert!(body.take("seed").is_none());
        assert!(body.take("temperature").is_none());
        assert_eq!(
            message(body.finish()),
            "unknown field `temprature`; did you mean `temperature`?"
        );
    }

    #[test]
    fn a_refused_field_may_hold_what_changes_nothing() {
        let refuse =
            |text: &str| fields(text).refuse("n", |value| *value == 1, "one answer is given");
        assert_eq!(refuse("{}"), Ok(()));
        assert_eq!(refuse(r#"{"n": 1}"#), Ok(()));
        assert_eq!(
            message(refuse(r#"{"n": 2}"#)),
            "`n` is not supported here: one answer is given"
        );
    }
}
