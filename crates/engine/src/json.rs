//! JSON as Python's tools write it.
//!
//! Python's `json` module writes `NaN`, `Infinity` and `-Infinity`, which JSON does not have, and editors put a byte
//! order mark in front of a file. Both are read here: a number that is not finite becomes a string that spells it, so
//! that it does no harm where its field is unused, and the reader of a field that needs a number names field and value.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, Error as _};

/// UTF-8's byte order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a JSON file of a checkpoint.
///
/// # Errors
/// If it is not JSON, or not UTF-8, or does not fit `T`.
pub(crate) fn parse<T: DeserializeOwned>(file: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(&to_standard(file)?)
}

/// The file as standard JSON, for a parser that is not ours.
///
/// # Errors
/// If it is encoded as UTF-16. Whether it is JSON at all is left to the parser.
pub(crate) fn to_standard(file: &[u8]) -> serde_json::Result<Cow<'_, [u8]>> {
    if file.starts_with(b"\xff\xfe") || file.starts_with(b"\xfe\xff") {
        let problem = "the file is encoded as UTF-16; save it as UTF-8";
        return Err(serde_json::Error::custom(problem));
    }
    Ok(with_finite_numbers(without_byte_order_mark(file)))
}

/// The file without a byte order mark.
pub(crate) fn without_byte_order_mark(file: &[u8]) -> &[u8] {
    file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file)
}

/// The same with every number that is not finite as a string.
fn with_finite_numbers(json: &[u8]) -> Cow<'_, [u8]> {
    let mut rewritten = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let start = at;
        if byte == b'"' {
            at = after_string(json, at);
        } else if is_word(byte) {
            at += json[at..].iter().take_while(|&&byte| is_word(byte)).count();
            let word = &json[start..at];
            if !is_finite(word) {
                rewritten.extend_from_slice(&json[copied..start]);
                rewritten.extend([b"\"", word, b"\""].concat());
                copied = at;
            }
        } else {
            at += 1;
        }
    }
    match copied {
        0 => Cow::Borrowed(json),
        _ => {
            rewritten.extend_from_slice(&json[copied..]);
            Cow::Owned(rewritten)
        }
    }
}

/// Where the string that begins at `start` has ended.
fn after_string(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// Whether a byte can be part of a number or of a literal such as `true`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_')
}

/// Whether a word is anything but a number that is not finite, a number too large for a float among them.
fn is_finite(word: &[u8]) -> bool {
    if matches!(word, b"NaN" | b"Infinity" | b"-Infinity") {
        return false;
    }
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let text = std::str::from_utf8(word).unwrap_or_default();
    !digits.first().is_some_and(u8::is_ascii_digit)
        || text.parse::<f64>().is_ok_and(f64::is_finite)
        || text.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn python_literals_become_strings_outside_of_strings_only() {
        let file = br#"{"a": NaN, "b": [Infinity,-Infinity , 1e999], "NaN": "Infinity \" NaN", "c": -1.5e3}"#;
        let expected = json!({
            "a": "NaN", "b": ["Infinity", "-Infinity", "1e999"], "NaN": "Infinity \" NaN", "c": -1500.0
        });
        assert_eq!(parse::<Value>(file).unwrap(), expected);
    }

    #[test]
    fn byte_order_mark_is_skipped() {
        assert_eq!(parse::<Value>(b"\xef\xbb\xbf{}").unwrap(), json!({}));
        assert_eq!(
            parse::<Value>(b"\xef\xbb\xbf[NaN]").unwrap(),
            json!(["NaN"])
        );
    }

    #[test]
    fn what_is_not_json_stays_an_error() {
        for file in [
            &b"{\"a\": xNaN}"[..],
            b"{\"a\": nan}",
            b"{\"a\": NaN",
            b"{\"a",
            b"{\"a\\",
            b"",
            b"\xef\xbb\xbf",
        ] {
            assert!(parse::<Value>(file).is_err(), "{file:?}");
        }
        let error = parse::<Value>(b"\xff\xfe{\0}\0").unwrap_err().to_string();
        assert!(error.contains("UTF-16"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn valid_json_is_read_as_it_is(text in "\\PC{0,40}", number: f64, whole: i64) {
            let value = json!({ "a": text, "b": [number, whole, true, null] });
            let file = value.to_string();
            proptest::prop_assert!(matches!(with_finite_numbers(file.as_bytes()), Cow::Borrowed(_)));
            let plain: Value = serde_json::from_str(&file).unwrap();
            proptest::prop_assert_eq!(parse::<Value>(file.as_bytes()).unwrap(), plain);
        }

        #[test]
        fn any_bytes_do_not_panic(file: Vec<u8>) {
            let _ = parse::<Value>(&file);
        }
    }
}
