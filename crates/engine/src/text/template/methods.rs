//! Python's string methods, where minijinja's compatibility layer lacks them or differs.
//!
//! Python's white space is Unicode's and the four information separators U+001C to U+001F besides, so stripping and
//! splitting are done here. The rest is left to `minijinja_contrib::pycompat`.

use minijinja::value::{Kwargs, Tuple, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// Which end of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// Calls a method that the value itself does not have.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = string_method(text, method, args)?
    {
        return Ok(result);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" => Value::from(stripped(text, args, Side::Both)?),
        "lstrip" => Value::from(stripped(text, args, Side::Left)?),
        "rstrip" => Value::from(stripped(text, args, Side::Right)?),
        "split" => split(text, args, false)?,
        "rsplit" => split(text, args, true)?,
        "splitlines" => {
            let (keep, named): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(named.get("keepends")?).unwrap_or(false);
            named.assert_all_used()?;
            lines(text, keep).into_iter().map(Value::from).collect()
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            parts(text, separator, text.find(not_empty(separator)?), true)
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            parts(text, separator, text.rfind(not_empty(separator)?), false)
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(title(text))
        }
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(is_space))
        }
        _ => return Ok(None),
    }))
}

/// `str.isspace` of one character.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `strip`, `lstrip` and `rstrip`: of white space, or of any of these characters.
pub(super) fn strip<'a>(text: &'a str, chars: Option<&str>, side: Side) -> &'a str {
    let unwanted = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = match side {
        Side::Right => text,
        Side::Left | Side::Both => text.trim_start_matches(unwanted),
    };
    match side {
        Side::Left => text,
        Side::Right | Side::Both => text.trim_end_matches(unwanted),
    }
}

fn stripped<'a>(text: &'a str, args: &[Value], side: Side) -> Result<&'a str, Error> {
    let (chars,): (Option<&str>,) = from_args(args)?;
    Ok(strip(text, chars, side))
}

/// `split` and `rsplit`: `(sep=None, maxsplit=-1)`.
fn split(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator, most, named): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator: Option<&str> = match separator {
        Some(separator) => Some(separator),
        None => named.get("sep")?,
    };
    let most = most.or(named.get("maxsplit")?);
    named.assert_all_used()?;
    let most = most
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX);
    let pieces: Vec<&str> = match (separator, from_right) {
        (None, false) => words(text, most),
        (None, true) => words_from_right(text, most),
        (Some(separator), false) => text
            .splitn(most.saturating_add(1), not_empty(separator)?)
            .collect(),
        (Some(separator), true) => {
            let mut pieces: Vec<&str> = text
                .rsplitn(most.saturating_add(1), not_empty(separator)?)
                .collect();
            pieces.reverse();
            pieces
        }
    };
    Ok(pieces.into_iter().map(Value::from).collect())
}

fn words(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = match words.len() < most {
            true => rest.find(is_space).unwrap_or(rest.len()),
            false => rest.len(),
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    words
}

fn words_from_right(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        let space = match words.len() < most {
            true => rest.char_indices().rfind(|&(_, c)| is_space(c)),
            false => None,
        };
        let start = space.map_or(0, |(at, c)| at + c.len_utf8());
        words.push(&rest[start..]);
        rest = rest[..start].trim_end_matches(is_space);
    }
    words.reverse();
    words
}

/// `splitlines`: at every line boundary that Unicode knows, `\r\n` being one.
fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_boundary = |c: char| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_boundary) {
        let width = match &rest[at..] {
            after if after.starts_with("\r\n") => 2,
            after => after.chars().next().map_or(1, char::len_utf8),
        };
        lines.push(&rest[..if keep_ends { at + width } else { at }]);
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// `title`: a letter is a capital unless it follows a letter, so apostrophes begin words.
fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            result.extend(c.to_lowercase());
        } else {
            result.extend(c.to_uppercase());
        }
        in_word = c.is_lowercase() || c.is_uppercase();
    }
    result
}

/// `partition` and `rpartition`; without the separator the whole text is first or last.
fn parts(text: &str, separator: &str, at: Option<usize>, whole_is_first: bool) -> Value {
    let parts = match at {
        Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
        None if whole_is_first => [text, "", ""],
        None => ["", "", text],
    };
    Value::from(Tuple::from(parts.map(Value::from)))
}

fn not_empty(separator: &str) -> Result<&str, Error> {
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    Ok(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_pythons_white_space() {
        assert_eq!(words(" a\u{1c}b \u{2003}c ", usize::MAX), ["a", "b", "c"]);
        assert_eq!(words("  a  b  c ", 1), ["a", "b  c "]);
        assert_eq!(words(" a b", 0), ["a b"]);
        assert_eq!(words_from_right("  a  b  c ", 1), ["  a  b", "c"]);
        assert_eq!(words_from_right(" é\u{85}b ", usize::MAX), ["é", "b"]);
        assert_eq!(words(" ", 3), [""; 0]);
    }

    #[test]
    fn lines_end_at_every_boundary() {
        assert_eq!(
            lines("a\r\nb\u{2028}c\n\nd", false),
            ["a", "b", "c", "", "d"]
        );
        assert_eq!(lines("a\r\nb\rc", true), ["a\r\n", "b\r", "c"]);
        assert_eq!(lines("a\n", false), ["a"]);
    }

    #[test]
    fn separators_are_left_information_separators_too() {
        assert_eq!(strip("\u{1f} a\u{85}", None, Side::Both), "a");
        assert_eq!(strip("\u{200b}a", None, Side::Both), "\u{200b}a");
        assert_eq!(strip("xyax", Some("yx"), Side::Left), "ax");
        assert_eq!(strip("xyax", Some("yx"), Side::Right), "xya");
    }
}
