//! JSON from clients, with limits that hold while it is parsed: two bytes of text can become a hundred in memory.
//!
//! Nesting is limited by serde_json itself, to 128 levels.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::ApiError;

/// Values in one body, token ids excluded.
const MOST_VALUES: usize = 1 << 17;
/// Elements of an array, or members of an object, that has no limit of its own.
const MOST_ELEMENTS: usize = 1 << 14;

/// Elements and members by place; `[]` stands for any element.
const MOST: [(&str, usize); 14] = [
    ("messages", 1 << 14),
    ("messages[].content", 4096),
    ("messages[].tool_calls", 1024),
    ("tools", 1024),
    ("input", 1 << 14),
    ("input[].content", 4096),
    ("system", 1024),
    ("stop", MOST_STOPS),
    ("stop_sequences", MOST_STOPS),
    ("logit_bias", MOST_BIASES),
    ("modalities", 16),
    ("prompt", MOST_PROMPT),
    ("prompt[]", MOST_PROMPT),
    ("tokens", MOST_PROMPT),
];
/// Stop strings in one request: each is searched for at every token.
pub(crate) const MOST_STOPS: usize = 16;
/// Biased tokens in one request: each is added at every token.
pub(crate) const MOST_BIASES: usize = 1024;
/// Token ids of a body: no context is larger.
const MOST_PROMPT: usize = 1 << 20;
/// Characters of a place that an error shows, at most.
const MOST_SHOWN: usize = 80;
/// UTF-8's byte order mark, which some clients send before a body.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What may still be parsed of a request: its body and the JSON in its strings together.
#[derive(Debug)]
pub(crate) struct JsonBudget {
    values: usize,
    token_ids: usize,
    refusal: Option<ApiError>,
    /// The innermost value that could not be parsed.
    broken: Option<String>,
}

impl Default for JsonBudget {
    fn default() -> Self {
        Self {
            values: MOST_VALUES,
            token_ids: MOST_PROMPT,
            refusal: None,
            broken: None,
        }
    }
}

impl JsonBudget {
    /// Parses JSON at `place` of the request. The body itself has an empty place, and a byte order mark before it is
    /// skipped.
    ///
    /// # Errors
    /// The limit that is exceeded, by name, or what is wrong with the JSON.
    pub(crate) fn parse(&mut self, json: &[u8], place: &str) -> Result<Value, Malformed> {
        let json = match place {
            "" => json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json),
            _ => json,
        };
        let mut parser = serde_json::Deserializer::from_slice(json);
        let seed = ValueSeed {
            budget: self,
            place: &JsonPath::Root(place),
        };
        let parsed = seed.deserialize(&mut parser);
        let parsed = parsed.and_then(|value| parser.end().map(|()| value));
        parsed.map_err(|error| {
            let broken = self.broken.take().unwrap_or_default();
            let refusal = self.refusal.take().or_else(|| no_text(&broken, &error));
            refusal.map_or(Malformed::Syntax(error), Malformed::Refused)
        })
    }

    /// Counts a value at a place.
    fn count<E: Error>(&mut self, place: &JsonPath<'_>) -> Result<(), E> {
        let Some(left) = self.values.checked_sub(1) else {
            let message = format!(
                "the request has more than {MOST_VALUES} JSON values; send fewer messages or smaller schemas"
            );
            return self.refuse(place, message);
        };
        self.values = left;
        Ok(())
    }

    /// Counts a token id at a place.
    fn count_token_id<E: Error>(&mut self, place: &JsonPath<'_>) -> Result<(), E> {
        let Some(left) = self.token_ids.checked_sub(1) else {
            let message = format!(
                "the request has more than {MOST_PROMPT} token ids; send fewer or shorter prompts"
            );
            return self.refuse(place, message);
        };
        self.token_ids = left;
        Ok(())
    }

    /// Checks the number of an element or member that was read.
    fn check<E: Error>(
        &mut self,
        place: &JsonPath<'_>,
        number: usize,
        most: usize,
        what: &str,
    ) -> Result<(), E> {
        if number <= most {
            return Ok(());
        }
        let message = format!("`{place}` has more than {most} {what}");
        self.refuse(place, message)
    }

    fn refuse<E: Error>(&mut self, place: &JsonPath<'_>, message: String) -> Result<(), E> {
        let place: String = place.to_string().chars().take(MOST_SHOWN).collect();
        self.refusal = Some(ApiError::invalid(place, message));
        Err(E::custom("a limit is exceeded"))
    }
}

/// The error of a string that is no text, by its place in the request; none if something else is wrong.
fn no_text(place: &str, error: &serde_json::Error) -> Option<ApiError> {
    let what = error.to_string();
    // These are serde_json's words for an escape of half a surrogate pair, and for bytes that are not UTF-8.
    let is_half = ["lone leading surrogate", "unexpected end of hex escape"]
        .iter()
        .any(|words| what.starts_with(words));
    let problem = match () {
        () if is_half => {
            "has half of a surrogate pair (an escape such as \\ud800 without its other half), which is no character"
        }
        () if what.starts_with("invalid unicode code point") => "is not UTF-8",
        () => return None,
    };
    let place: String = place.chars().take(MOST_SHOWN).collect();
    let subject = match place.is_empty() {
        true => "the body".to_owned(),
        false => format!("`{place}`"),
    };
    let message = format!(
        "{subject} {problem}; send whole characters (line {}, column {})",
        error.line(),
        error.column()
    );
    Some(match place.is_empty() {
        true => ApiError::bad_request(message),
        false => ApiError::invalid(place, message),
    })
}

/// Why JSON was not parsed.
#[derive(Debug)]
pub(crate) enum Malformed {
    /// It exceeds a limit.
    Refused(ApiError),
    /// It is not JSON.
    Syntax(serde_json::Error),
}

/// Where a value is in the request.
enum JsonPath<'a> {
    Root(&'a str),
    Member(&'a JsonPath<'a>, &'a str),
    Element(&'a JsonPath<'a>, usize),
}

impl fmt::Display for JsonPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(place) => f.write_str(place),
            Self::Member(JsonPath::Root(""), name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl JsonPath<'_> {
    /// How many elements or members a value here may have.
    fn most(&self) -> usize {
        let limit = MOST.iter().find(|(pattern, _)| self.is(pattern));
        limit.map_or(MOST_ELEMENTS, |(_, most)| *most)
    }

    /// Whether it matches a pattern.
    fn is(&self, pattern: &str) -> bool {
        match self {
            Self::Root(place) => *place == pattern,
            Self::Element(parent, _) => pattern
                .strip_suffix("[]")
                .is_some_and(|rest| parent.is(rest)),
            Self::Member(parent, name) => {
                pattern
                    .strip_suffix(*name)
                    .is_some_and(|rest| match rest.strip_suffix('.') {
                        Some(rest) => parent.is(rest),
                        None => rest.is_empty() && parent.is(""),
                    })
            }
        }
    }

    /// Whether a number here is a token id.
    fn is_token(&self) -> bool {
        self.is("prompt[]") || self.is("prompt[][]") || self.is("tokens[]")
    }
}

struct ValueSeed<'a> {
    budget: &'a mut JsonBudget,
    place: &'a JsonPath<'a>,
}

impl ValueSeed<'_> {
    fn number<E: Error>(self, number: impl Into<Number>) -> Result<Value, E> {
        if self.place.is_token() {
            self.budget.count_token_id(self.place)?;
        } else {
            self.budget.count(self.place)?;
        }
        Ok(Value::Number(number.into()))
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let Self { budget, place } = self;
        let visitor = ValueSeed {
            budget: &mut *budget,
            place,
        };
        let parsed = from.deserialize_any(visitor);
        if parsed.is_err() {
            budget.broken.get_or_insert_with(|| place.to_string());
        }
        parsed
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.budget.count(self.place)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.number(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.number(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.budget.count(self.place)?;
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.budget.count(self.place)?;
        Ok(Value::String(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.budget.count(self.place)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        self.budget.count(self.place)?;
        let most = self.place.most();
        let mut values = Vec::new();
        loop {
            let place = JsonPath::Element(self.place, values.len());
            let seed = ElementSeed {
                most,
                seed: ValueSeed {
                    budget: &mut *self.budget,
                    place: &place,
                },
            };
            match elements.next_element_seed(seed)? {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.budget.count(self.place)?;
        let most = self.place.most();
        let mut values = Map::new();
        let mut number = 0;
        while let Some(name) = members.next_key::<String>()? {
            number += 1;
            // A key that is repeated is a member too.
            self.budget.count(self.place)?;
            self.budget.check(self.place, number, most, "members")?;
            let place = JsonPath::Member(self.place, &name);
            let value = members.next_value_seed(ValueSeed {
                budget: &mut *self.budget,
                place: &place,
            })?;
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }
}

/// The seed of an element, which is used only if there is one more.
struct ElementSeed<'a> {
    most: usize,
    seed: ValueSeed<'a>,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let ValueSeed { budget, place } = self.seed;
        if let JsonPath::Element(array, index) = place {
            budget.check(array, index + 1, self.most, "elements")?;
        }
        ValueSeed { budget, place }.deserialize(from)
    }
}

#[cfg(test)]
mod tests;
