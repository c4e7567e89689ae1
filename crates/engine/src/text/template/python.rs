//! Values written as Python writes them: `str`, `repr` and `json.dumps`.

use std::fmt::Write;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::bounds::LARGEST_PROMPT;

/// Nothing that a conversation holds is nested deeper; JSON's parser stops at half of this.
const MAX_DEPTH: usize = 256;

/// How JSON is laid out.
#[derive(Debug)]
pub(super) struct JsonStyle {
    /// Write everything outside ASCII as `\uXXXX`.
    pub(super) ensure_ascii: bool,
    /// What a level is indented by; everything on one line without it.
    pub(super) indent: Option<String>,
    /// Between items.
    pub(super) item: String,
    /// Between a key and its value.
    pub(super) key: String,
    /// Order objects by their keys.
    pub(super) sort_keys: bool,
}

/// `str(value)`; nothing for an undefined value, as Jinja prints it.
pub(super) fn display(value: &Value) -> Result<String, Error> {
    match (value.kind(), value.as_str()) {
        (ValueKind::Undefined, _) => Ok(String::new()),
        (_, Some(text)) => Ok(text.to_owned()),
        _ => {
            let mut out = String::new();
            write_repr(value, &mut out, 0)?;
            Ok(out)
        }
    }
}

/// `json.dumps(value, …)`.
pub(super) fn json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(value, style, &mut out, 0)?;
    Ok(out)
}

/// The filter `pprint` as minijinja lays it out, an item a line. minijinja's own takes time that grows with the cube of the
/// depth, and no limit ends it.
pub(super) fn pretty(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_pretty(value, &mut out, 0)?;
    Ok(out)
}

fn write_pretty(value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    check_size(depth, out)?;
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str("    "));
    };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable if value.len().is_some() => {
            out.push('[');
            for item in value.try_iter()? {
                line(out, depth + 1);
                write_pretty(&item, out, depth + 1)?;
                out.push(',');
            }
            close_pretty(value, out, depth, line);
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (key, item) in pairs(value) {
                line(out, depth + 1);
                write_pretty(&key, out, depth + 1)?;
                out.push_str(": ");
                write_pretty(&item, out, depth + 1)?;
                out.push(',');
            }
            close_pretty(value, out, depth, line);
            out.push('}');
        }
        // Without a length it is an iterator, which minijinja names and does not run.
        _ => {
            let _ = write!(out, "{value:?}");
        }
    }
    Ok(())
}

fn close_pretty(value: &Value, out: &mut String, depth: usize, line: impl Fn(&mut String, usize)) {
    if value.len() != Some(0) {
        line(out, depth);
    }
}

fn write_repr(value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    check_size(depth, out)?;
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value, ["nan", "inf", "-inf"])),
        ValueKind::String => write_repr_string(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            let tuple = value.downcast_object_ref::<Tuple>().is_some();
            let items: Vec<Value> = value.try_iter()?.collect();
            out.push(if tuple { '(' } else { '[' });
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(item, out, depth + 1)?;
            }
            if tuple && items.len() == 1 {
                out.push(',');
            }
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Map => {
            out.push('{');
            for (index, (key, item)) in pairs(value).into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(&key, out, depth + 1)?;
                out.push_str(": ");
                write_repr(&item, out, depth + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn write_repr_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                // Writing to a string does not fail.
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// Python's `isprintable`: neither a control, format, private or unassigned character, nor a separator but the space.
/// Rust's escapes go by the same categories; behind another character they leave combining ones alone.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let text: String = ['a', c].iter().collect();
    text.escape_debug().nth(1) == Some(c)
}

fn write_json(
    value: &Value,
    style: &JsonStyle,
    out: &mut String,
    depth: usize,
) -> Result<(), Error> {
    check_size(depth, out)?;
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value, ["NaN", "Infinity", "-Infinity"])),
        ValueKind::String => write_json_string(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(index, style, out, depth + 1);
                write_json(item, style, out, depth + 1)?;
            }
            close(items.is_empty(), style, out, depth);
            out.push(']');
        }
        ValueKind::Map => {
            let mut pairs = pairs(value);
            if style.sort_keys {
                pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            }
            out.push('{');
            for (index, (key, item)) in pairs.iter().enumerate() {
                separate(index, style, out, depth + 1);
                write_json_string(&json_key(key)?, style, out);
                out.push_str(&style.key);
                write_json(item, style, out, depth + 1)?;
            }
            close(pairs.is_empty(), style, out, depth);
            out.push('}');
        }
        kind => {
            return Err(Error::new(
                ErrorKind::BadSerialization,
                format!("tojson cannot write an {kind} value"),
            ));
        }
    }
    Ok(())
}

/// What stands before an item.
fn separate(index: usize, style: &JsonStyle, out: &mut String, depth: usize) {
    if index > 0 {
        out.push_str(&style.item);
    }
    break_line(style, out, depth);
}

/// What stands before the closing bracket.
fn close(empty: bool, style: &JsonStyle, out: &mut String, depth: usize) {
    if !empty {
        break_line(style, out, depth);
    }
}

fn break_line(style: &JsonStyle, out: &mut String, depth: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
}

fn json_key(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => key.is_true().to_string(),
        ValueKind::Number => number(key, ["NaN", "Infinity", "-Infinity"]),
        kind => {
            return Err(Error::new(
                ErrorKind::BadSerialization,
                format!("tojson cannot write a {kind} as a key"),
            ));
        }
    })
}

fn write_json_string(text: &str, style: &JsonStyle, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (style.ensure_ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn pairs(map: &Value) -> Vec<(Value, Value)> {
    map.as_object()
        .and_then(|object| Some(object.try_iter_pairs()?.collect()))
        .unwrap_or_default()
}

/// An integer, or a float as `repr` writes it: the fewest digits that give it back, with an exponent below 10⁻⁴ and
/// from 10¹⁶. `odd` are the names of not-a-number and the infinities.
fn number(value: &Value, odd: [&str; 3]) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else {
        return value.to_string();
    };
    if float.is_nan() {
        return odd[0].to_owned();
    }
    if float.is_infinite() {
        return odd[if float > 0.0 { 1 } else { 2 }].to_owned();
    }
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{float:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// Refuses what is nested too deeply, and what has come to be longer than any prompt: an indentation multiplies.
fn check_size(depth: usize, out: &str) -> Result<(), Error> {
    let refuse = |why| Err(Error::new(ErrorKind::InvalidOperation, why));
    if depth > MAX_DEPTH {
        return refuse(format!(
            "a value is nested more than {MAX_DEPTH} levels deep"
        ));
    }
    if out.len() > LARGEST_PROMPT {
        return refuse(format!(
            "a value is written in more than {LARGEST_PROMPT} bytes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_with_the_fewest_digits() {
        for (float, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1e100, "1e+100"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(display(&Value::from(float)).unwrap(), text);
        }
    }

    #[test]
    fn strings_in_containers_are_quoted_as_python_quotes_them() {
        let repr = |text: &str| {
            let mut out = String::new();
            write_repr_string(text, &mut out);
            out
        };
        assert_eq!(repr("it's"), r#""it's""#);
        assert_eq!(repr("\"it's\""), r#"'"it\'s"'"#);
        assert_eq!(repr("a\n\\\u{7f}\u{1}"), r"'a\n\\\x7f\x01'");
        assert_eq!(
            repr("é\u{a0}\u{ad}\u{200b}\u{2028}e\u{301}日😀\u{e000}\u{e0001}"),
            "'é\\xa0\\xad\\u200b\\u2028e\u{301}日😀\\ue000\\U000e0001'"
        );
    }

    #[test]
    fn deeply_nested_value_is_an_error() {
        let mut value = Value::from(1);
        for _ in 0..=MAX_DEPTH {
            value = Value::from(vec![value]);
        }
        assert!(display(&value).is_err());
        assert!(pretty(&value).is_err());
    }

    #[test]
    fn pprint_lays_values_out_as_minijinja_does() {
        let value = serde_json::json!({
            "a": [1, -2.5, true, null, "it's\n\u{1}é"], "empty": [[], {}, ""], "deep": {"b": [{"c": [1]}]}
        });
        let value = Value::from(minijinja::value::Serde(value));
        assert_eq!(pretty(&value).unwrap(), format!("{value:#?}"));
        for value in [
            Value::UNDEFINED,
            Value::from(()),
            Value::from_bytes(vec![1, 2]),
        ] {
            assert_eq!(pretty(&value).unwrap(), format!("{value:#?}"));
        }
    }
}
