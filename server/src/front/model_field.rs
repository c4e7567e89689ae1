//! The `model` of a body, read and replaced without touching any other byte.

use std::borrow::Cow;
use std::ops::Range;

use axum::body::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Where the value of `model` is in a body, and the name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModelField {
    /// The bytes of its value, quotes included; empty at the place for it if the body has none.
    range: Range<usize>,
    /// The name; none if the body has none, or null.
    pub name: Option<String>,
    is_missing: bool,
    has_others: bool,
}

impl ModelField {
    /// Finds it. None if the body is not a JSON object, or `model` is not a string: the API explains that better.
    pub(crate) fn find(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct BodyFields<'a> {
            // With the value of a null, whose place is replaced too.
            #[serde(borrow, default, deserialize_with = "present")]
            model: Option<&'a RawValue>,
        }
        fn present<'de: 'a, 'a, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<&'a RawValue>, D::Error> {
            <&RawValue>::deserialize(from).map(Some)
        }
        // Some clients send a byte order mark.
        let skipped = match body.strip_prefix(b"\xef\xbb\xbf") {
            Some(_) => 3,
            None => 0,
        };
        let text = &body[skipped..];
        let fields: BodyFields<'_> = serde_json::from_slice(text).ok()?;
        match fields.model {
            Some(raw) => {
                let start = raw.get().as_ptr().addr() - body.as_ptr().addr();
                let name: Option<Cow<'_, str>> = serde_json::from_str(raw.get()).ok()?;
                Some(Self {
                    range: start..start + raw.get().len(),
                    name: name.map(Cow::into_owned),
                    is_missing: false,
                    has_others: true,
                })
            }
            None => {
                let open = skipped + text.iter().position(|&byte| byte == b'{')? + 1;
                let next = body[open..]
                    .iter()
                    .find(|byte| !byte.is_ascii_whitespace())?;
                Some(Self {
                    range: open..open,
                    name: None,
                    is_missing: true,
                    has_others: *next != b'}',
                })
            }
        }
    }

    /// The body with another name, in parts: what surrounds the name is not copied.
    pub(crate) fn replaced(&self, body: &Bytes, name: &str) -> [Bytes; 3] {
        let name = serde_json::Value::from(name).to_string();
        let value = match (self.is_missing, self.has_others) {
            (false, _) => name,
            (true, true) => format!("\"model\":{name},"),
            (true, false) => format!("\"model\":{name}"),
        };
        [
            body.slice(..self.range.start),
            value.into(),
            body.slice(self.range.end..),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_is_replaced_and_nothing_else() {
        for (body, name, replaced) in [
            (
                r#"{"a": 1.50, "model" : "x\u0041" ,"b":1e999}"#,
                Some("xA"),
                r#"{"a": 1.50, "model" : "new" ,"b":1e999}"#,
            ),
            (
                r#"{"messages":[{"model":"inner"}]}"#,
                None,
                r#"{"model":"new","messages":[{"model":"inner"}]}"#,
            ),
            (" { } ", None, r#" {"model":"new" } "#),
            (r#"{"model":null}"#, None, r#"{"model":"new"}"#),
            (
                "\u{feff}{\"model\":\"x\"}",
                Some("x"),
                "\u{feff}{\"model\":\"new\"}",
            ),
        ] {
            let field = ModelField::find(body.as_bytes()).unwrap();
            assert_eq!(field.name.as_deref(), name, "{body}");
            let whole = Bytes::from_static(body.as_bytes());
            let new = field.replaced(&whole, "new");
            assert_eq!(new.concat(), replaced.as_bytes());
            // The memory of bodies counts no copy.
            assert_eq!(new[0].as_ptr(), whole.as_ptr());
            assert_eq!(new[2].as_ptr_range().end, whole.as_ptr_range().end);
        }
    }

    #[test]
    fn body_that_the_api_refuses_has_no_model_field() {
        for body in [
            "",
            "[]",
            "{",
            r#"{"model":7}"#,
            r#"{"model":"a","model":"b"}"#,
            "{}x",
        ] {
            assert_eq!(ModelField::find(body.as_bytes()), None, "{body}");
        }
    }
}
