//! Reads JSON and Python literals as text and writes them as compact JSON.
//!
//! Numbers keep the digits that the model wrote: a value never passes through a floating-point number. Two liberties
//! are taken in both syntaxes: a control character inside a string is read as itself, and half a surrogate pair is
//! read as U+FFFD.

/// The deepest nesting that is read. Below the limit of `serde_json`, so that every client's parser accepts it.
pub(super) const MAX_DEPTH: usize = 100;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// JSON.
    Json,
    /// Also `True`, `False`, `None`, single quotes, tuples, and a comma before a closing bracket.
    Python,
}

/// `text` as compact JSON; `None` if it is not one complete value.
pub(super) fn compact(text: &str, syntax: Syntax) -> Option<String> {
    let mut reader = LiteralReader::new(text, syntax);
    let mut json = String::with_capacity(text.len());
    reader.value(&mut json, 0)?;
    reader.at_end().then_some(json)
}

/// The members of the object in `text`: each name, decoded, and its value as compact JSON.
pub(super) fn members(text: &str, syntax: Syntax) -> Option<Vec<(String, String)>> {
    let mut reader = LiteralReader::new(text, syntax);
    let mut members = Vec::new();
    reader.skip_space();
    reader.expect('{')?;
    while reader.item('}', members.is_empty())? {
        let name = reader.string()?;
        reader.skip_space();
        reader.expect(':')?;
        let mut json = String::new();
        reader.value(&mut json, 1)?;
        members.push((name, json));
    }
    reader.at_end().then_some(members)
}

/// The string that `json` is, if it is one.
pub(super) fn string(json: &str) -> Option<String> {
    let mut reader = LiteralReader::new(json, Syntax::Json);
    let string = reader.string()?;
    reader.at_end().then_some(string)
}

/// `text` as a JSON string.
pub(super) fn quote(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    push_quoted(&mut json, text);
    json
}

fn push_quoted(json: &mut String, text: &str) {
    json.push('"');
    push_escaped(json, text);
    json.push('"');
}

/// Adds text inside a JSON string.
pub(super) fn push_escaped(json: &mut String, text: &str) {
    let mut rest = text;
    let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    while let Some(at) = rest.bytes().position(special) {
        json.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => json.push_str("\\\""),
            b'\\' => json.push_str("\\\\"),
            b'\n' => json.push_str("\\n"),
            b'\r' => json.push_str("\\r"),
            b'\t' => json.push_str("\\t"),
            0x08 => json.push_str("\\b"),
            0x0c => json.push_str("\\f"),
            byte => json.push_str(&format!("\\u{byte:04x}")),
        }
        rest = &rest[at + 1..];
    }
    json.push_str(rest);
}

/// The length of the JSON number that `text` begins with, 0 if none.
///
/// A number beyond the range of a double is JSON too, and keeps its digits.
pub(super) fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let start = usize::from(text.starts_with('-'));
    let integer = digits(start);
    if integer == 0 || (integer > 1 && bytes[start] == b'0') {
        return 0;
    }
    let mut len = start + integer;
    if bytes.get(len) == Some(&b'.') {
        match digits(len + 1) {
            0 => return 0,
            fraction => len += 1 + fraction,
        }
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        match digits(len + 1 + sign) {
            0 => return 0,
            exponent => len += 1 + sign + exponent,
        }
    }
    len
}

struct LiteralReader<'a> {
    rest: &'a str,
    python: bool,
}

impl<'a> LiteralReader<'a> {
    fn new(text: &'a str, syntax: Syntax) -> Self {
        Self {
            rest: text,
            python: syntax == Syntax::Python,
        }
    }

    fn value(&mut self, json: &mut String, depth: usize) -> Option<()> {
        self.skip_space();
        match self.rest.chars().next()? {
            '{' | '[' | '(' if depth >= MAX_DEPTH => None,
            '{' => self.object(json, depth),
            '[' => self.array(']', json, depth),
            '(' if self.python => self.array(')', json, depth),
            '"' | '\'' => {
                push_quoted(json, &self.string()?);
                Some(())
            }
            '-' | '0'..='9' => {
                let len = number_len(self.rest);
                let (number, rest) = self.rest.split_at(len);
                self.rest = rest;
                json.push_str(number);
                (len > 0).then_some(())
            }
            _ => self.constant(json),
        }
    }

    fn object(&mut self, json: &mut String, depth: usize) -> Option<()> {
        self.expect('{')?;
        json.push('{');
        let mut first = true;
        while self.item('}', first)? {
            if !first {
                json.push(',');
            }
            first = false;
            push_quoted(json, &self.string()?);
            self.skip_space();
            self.expect(':')?;
            json.push(':');
            self.value(json, depth + 1)?;
        }
        json.push('}');
        Some(())
    }

    fn array(&mut self, close: char, json: &mut String, depth: usize) -> Option<()> {
        self.rest = &self.rest[1..];
        json.push('[');
        let mut first = true;
        while self.item(close, first)? {
            if !first {
                json.push(',');
            }
            first = false;
            self.value(json, depth + 1)?;
        }
        json.push(']');
        Some(())
    }

    /// Whether another item follows, or the closing bracket, which is read.
    fn item(&mut self, close: char, first: bool) -> Option<bool> {
        self.skip_space();
        if !first && self.rest.starts_with(',') {
            self.expect(',')?;
            self.skip_space();
            if !(self.python && self.rest.starts_with(close)) {
                return Some(true);
            }
        } else if first && !self.rest.starts_with(close) {
            return Some(true);
        }
        self.expect(close)?;
        Some(false)
    }

    fn constant(&mut self, json: &mut String) -> Option<()> {
        let constants = [
            ("true", "true", false),
            ("false", "false", false),
            ("null", "null", false),
            ("True", "true", true),
            ("False", "false", true),
            ("None", "null", true),
        ];
        let (word, constant, _) = constants
            .into_iter()
            .find(|(word, _, python)| self.rest.starts_with(word) && (self.python || !python))?;
        self.rest = &self.rest[word.len()..];
        json.push_str(constant);
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        if quote != '"' && !(self.python && quote == '\'') {
            return None;
        }
        self.rest = &self.rest[1..];
        let mut string = String::new();
        loop {
            let end = self.rest.find([quote, '\\'])?;
            string.push_str(&self.rest[..end]);
            let special = self.rest[end..].chars().next()?;
            self.rest = &self.rest[end + 1..];
            if special == quote {
                return Some(string);
            }
            self.escape(&mut string)?;
        }
    }

    /// An escape sequence, after its backslash.
    fn escape(&mut self, string: &mut String) -> Option<()> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        string.push(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode()?,
            '\'' if self.python => c,
            'x' if self.python => char::from_u32(self.hex(2)?)?,
            'U' if self.python => char::from_u32(self.hex(8)?)?,
            _ => return None,
        });
        Some(())
    }

    /// `\uXXXX`, and the second half of a surrogate pair.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex(4)?;
        if (0xd800..0xdc00).contains(&first) && self.rest.starts_with("\\u") {
            let before = self.rest;
            self.rest = &self.rest[2..];
            let second = self.hex(4)?;
            if (0xdc00..0xe000).contains(&second) {
                return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
            self.rest = before;
        }
        Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let hex = self.rest.get(..digits)?;
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = &self.rest[digits..];
        u32::from_str_radix(hex, 16).ok()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn expect(&mut self, c: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(c)?;
        Some(())
    }

    fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn python_literal_becomes_json() {
        for (python, json) in [
            ("['a', 'b']", r#"["a","b"]"#),
            ("{'k': True, 'l': None,}", r#"{"k":true,"l":null}"#),
            ("(1, 2.50)", "[1,2.50]"),
            (r"'it\'s \x41 \U0001f600'", "\"it's A 😀\""),
            (r#"{"k": false, 'q': '"'}"#, r#"{"k":false,"q":"\""}"#),
        ] {
            assert_eq!(compact(python, Syntax::Python).as_deref(), Some(json));
            assert_eq!(compact(python, Syntax::Json), None);
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let numbers = "[12345678901234567890123,-0,1.50,1e2]";
        assert_eq!(compact(numbers, Syntax::Json).as_deref(), Some(numbers));
    }

    #[test]
    fn malformed_value_is_refused() {
        for text in [
            "",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{1: 2}",
            "01",
            "1.",
            ".5",
            "\"\\q\"",
            "\"a",
            "nul",
            "[] x",
            "{\"a\":1,,}",
            "-",
            "'a'",
            "\"\\ud83\"",
        ] {
            assert_eq!(compact(text, Syntax::Json), None, "{text}");
        }
    }

    #[test]
    fn surrogates_are_joined_or_replaced() {
        assert_eq!(string(r#""\ud83d\ude00""#).as_deref(), Some("😀"));
        assert_eq!(string(r#""\ud83d\u0041""#).as_deref(), Some("\u{fffd}A"));
    }

    #[test]
    fn nesting_stops_at_the_limit() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(compact(&nested(MAX_DEPTH), Syntax::Json).is_some());
        assert!(compact(&nested(MAX_DEPTH + 1), Syntax::Json).is_none());
        assert!(compact(&"[".repeat(1 << 20), Syntax::Python).is_none());
    }

    proptest! {
        #[test]
        fn json_is_read_as_serde_reads_it(text in "[\\[\\]{}\",:0-9a\\\\ untrefalsE.+-]{0,12}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let json = compact(&text, Syntax::Json).unwrap();
                prop_assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
            } else if !text.contains("\\u") {
                prop_assert_eq!(compact(&text, Syntax::Json), None);
            }
        }

        #[test]
        fn quoted_text_is_a_json_string(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&quote(&text)).unwrap(), text.clone());
            prop_assert_eq!(string(&quote(&text)), Some(text));
        }

        #[test]
        fn any_text_yields_json_or_nothing(text in "[\\[\\](){}'\"\\\\xu0-9a,: TrueNon]{0,40}") {
            if let Some(json) = compact(&text, Syntax::Python) {
                prop_assert!(serde_json::from_str::<Value>(&json).is_ok(), "{}", json);
            }
        }
    }
}
