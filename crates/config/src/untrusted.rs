//! Text that came from outside this program.

use std::fmt::{self, Display, Formatter, Write};
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// Text from a server, a client, a log file or a command, made safe to show.
///
/// A terminal obeys control characters: an answer can set its title, its clipboard, or repaint lines above. Bidirectional
/// marks reorder what a person reads. This type escapes both when it is made (`\n`, `\u{1b}`, `\u{202e}`), and cuts what
/// is too long, so that its text can go into a terminal, a log line, an alert or JSON as it is. It does not know any
/// markup: a channel that interprets HTML must escape that itself.
///
/// Making one from text that is safe already changes nothing.
///
/// ```
/// use sanctum_config::UntrustedText;
///
/// let answer = UntrustedText::new("4\x1b]0;owned\x07\nyes");
/// assert_eq!(answer.as_str(), r"4\u{1b}]0;owned\u{7}\nyes");
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct UntrustedText(String);

impl UntrustedText {
    /// The longest text that is kept, in characters; the rest is counted.
    pub const LIMIT: usize = 4096;

    /// One line: line breaks are escaped like every other control character.
    pub fn new(text: &str) -> Self {
        Self::bounded(text, Self::LIMIT)
    }

    /// One line of at most `limit` characters of `text`, and how many more there were.
    pub fn bounded(text: &str, limit: usize) -> Self {
        Self::escaped(text, limit, |_| false)
    }

    /// Several lines: line feeds and tabs stay. For a terminal or a file, not for a log line.
    pub fn multiline(text: &str) -> Self {
        Self::escaped(text, 16 * Self::LIMIT, |c| matches!(c, '\n' | '\t'))
    }

    /// One line from bytes; those that are not UTF-8 are replaced.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::new(&String::from_utf8_lossy(bytes))
    }

    /// The safe text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `limit` characters of `text`, with all hidden ones escaped but those that it `keeps`.
    pub(crate) fn escaped(text: &str, limit: usize, keeps: impl Fn(char) -> bool) -> Self {
        let mut safe = String::with_capacity(text.len().min(limit));
        let mut characters = text.chars();
        for c in characters.by_ref().take(limit) {
            match c {
                c if keeps(c) => safe.push(c),
                '\n' => safe.push_str("\\n"),
                '\r' => safe.push_str("\\r"),
                '\t' => safe.push_str("\\t"),
                c if is_hidden(c) => {
                    // Writing to a String does not fail.
                    let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
                }
                c => safe.push(c),
            }
        }
        match characters.count() {
            0 => {}
            more => {
                let _ = write!(safe, "… ({more} more characters)");
            }
        }
        Self(safe)
    }
}

/// Whether a terminal or a reader's eye would be steered by `c` instead of seeing it: controls (C0, C1, DEL), line and
/// paragraph separators, the bidirectional marks of UAX #9, and characters without width that join nothing. The joiners
/// U+200C and U+200D stay: scripts and emoji need them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The same JSON with every hidden character as `\uXXXX`, so that it can be printed to a terminal; a program
/// reads the same values from it. Line feeds between the values stay.
///
/// ```
/// assert_eq!(sanctum_config::terminal_json("\"4\u{9b}31m\""), r#""4\u009b31m""#);
/// ```
pub fn terminal_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        match c {
            c if c != '\n' && is_hidden(c) => {
                for unit in c.encode_utf16(&mut units) {
                    // Writing to a String does not fail.
                    let _ = write!(safe, "\\u{unit:04x}");
                }
            }
            c => safe.push(c),
        }
    }
    safe
}

/// The same JSON value in which every text, the names of fields included, is an [`UntrustedText`]: for values from another
/// host or from files.
pub fn escape_json(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(UntrustedText::new(&text).into()),
        Value::Array(values) => values.into_iter().map(escape_json).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (UntrustedText::new(&name).to_string(), escape_json(value)))
            .collect(),
        other => other,
    }
}

impl From<&str> for UntrustedText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for UntrustedText {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<UntrustedText> for String {
    fn from(text: UntrustedText) -> Self {
        text.0
    }
}

impl Deref for UntrustedText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Display for UntrustedText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for UntrustedText {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn untrusted_text_with_controls_and_bidi_marks_is_escaped() {
        for (text, safe) in [
            ("plain — é 你好 👩‍🍳", "plain — é 你好 👩‍🍳"),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\x1b[31m\x07\x7f\u{9b}", r"\u{1b}[31m\u{7}\u{7f}\u{9b}"),
            (
                "\u{202e}fdp.exe\u{2066}\u{feff}",
                r"\u{202e}fdp.exe\u{2066}\u{feff}",
            ),
            ("line\u{2028}paragraph", r"line\u{2028}paragraph"),
        ] {
            assert_eq!(UntrustedText::new(text).as_str(), safe);
        }
        assert_eq!(
            UntrustedText::multiline("a\n\tb\x1b").as_str(),
            "a\n\tb\\u{1b}"
        );
        assert_eq!(UntrustedText::from_bytes(b"\xff4").as_str(), "\u{fffd}4");
    }

    #[test]
    fn untrusted_text_beyond_its_limit_is_cut_and_counted() {
        let text = UntrustedText::bounded("ééééé", 3);
        assert_eq!(text.as_str(), "ééé… (2 more characters)");
        let long = UntrustedText::from("x".repeat(1 << 20));
        assert!(long.len() < 5000, "{}", long.len());
    }

    #[test]
    fn terminal_json_hides_nothing_and_reads_back_the_same() {
        let value =
            serde_json::json!({ "a\u{202e}": ["\x1b]0;x\x07\x7f\u{9b}", "\u{e0001}", "é 👩‍🍳\n"] });
        for text in [
            value.to_string(),
            serde_json::to_string_pretty(&value).unwrap(),
        ] {
            let safe = terminal_json(&text);
            assert!(!safe.chars().any(|c| c != '\n' && is_hidden(c)), "{safe}");
            assert!(safe.contains("é 👩‍🍳"), "{safe}");
            let read: serde_json::Value = serde_json::from_str(&safe).unwrap();
            assert_eq!(read, value);
        }
    }

    proptest! {
        #[test]
        fn untrusted_text_never_shows_a_hidden_character(text in any::<String>()) {
            let safe = UntrustedText::new(&text);
            prop_assert!(!safe.chars().any(is_hidden));
            let read: UntrustedText = serde_json::from_str(&serde_json::to_string(&text).unwrap()).unwrap();
            prop_assert_eq!(&read, &safe);
            if safe.chars().count() <= UntrustedText::LIMIT {
                prop_assert_eq!(UntrustedText::new(&safe), safe);
            }
        }
    }
}
