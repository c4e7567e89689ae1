//! Errors in a `fleet.toml`: each names the line or section, and what to write instead.

use std::io;
use std::path::PathBuf;

use crate::near::did_you_mean;

/// A `fleet.toml` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; name the fleet's file with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line is not TOML, has an unknown key, or a value that its key does not accept.
    #[error("{}, line {line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The error, and what to write instead.
        message: String,
    },
    /// Two sections contradict each other.
    #[error("{}, [{section}]: {message}", path.display())]
    Section {
        /// The file.
        path: PathBuf,
        /// The section with the reference, as its header is written.
        section: String,
        /// The contradiction, and what to write instead.
        message: String,
    },
}

impl FleetError {
    /// The error of the TOML parser in `text`.
    pub(crate) fn from_toml(path: PathBuf, text: &str, error: &toml::de::Error) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        Self::Line {
            path,
            line: Self::line_at(text, at),
            message: with_suggestion(error.message()),
        }
    }

    /// The line of a byte of `text`, counted from 1.
    pub(crate) fn line_at(text: &str, at: usize) -> usize {
        let before = &text.as_bytes()[..at.min(text.len())];
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }
}

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a message with a suggestion.
fn with_suggestion(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut quoted = rest.split('`').skip(1).step_by(2);
        let key = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        return format!(
            "unknown key `{key}`{}; the keys here are {}",
            near(key, &known),
            known.join(", ")
        );
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("the key {rest} is missing in this section");
    }
    let message = message.trim_end().replace('\n', ", ");
    match message.rsplit_once(", expected ") {
        Some((head, kind)) => format!("{head}, expected {}", in_words(kind)),
        None => message,
    }
}

/// A number as serde names it, such as `u32`, in words.
fn in_words(kind: &str) -> &str {
    match kind {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        _ if kind.starts_with("a nonzero ") => "a whole number, 1 or more",
        _ => kind,
    }
}

/// The key that was meant, as the end of the sentence: a misspelt one, or one whose unit is missing.
fn near(key: &str, known: &[&str]) -> String {
    let misspelt = did_you_mean(key, known.iter().copied());
    let unit = known.iter().find(|known| {
        let rest = known.strip_prefix(key);
        rest.is_some_and(|rest| rest.starts_with('_'))
    });
    match unit {
        Some(known) if misspelt.is_empty() => format!("; did you mean `{known}`?"),
        _ => misspelt,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Fleet;

    #[test]
    fn message_of_serde_gets_a_suggestion() {
        assert_eq!(
            with_suggestion("unknown field `hots`, expected one of `host`, `listen`"),
            "unknown key `hots`; did you mean `host`?; the keys here are host, listen"
        );
        assert_eq!(
            with_suggestion("unknown field `zebra`, expected `url` or `sound`"),
            "unknown key `zebra`; the keys here are url, sound"
        );
        assert_eq!(
            with_suggestion("missing field `host`"),
            "the key `host` is missing in this section"
        );
    }

    #[test]
    fn kind_of_a_number_is_in_words() {
        let error = |text: &str| Fleet::parse(text, Path::new("fleet.toml")).unwrap_err();
        for (text, words) in [
            (
                "[fleet]\nretention = 0\n",
                "expected a whole number, 1 or more",
            ),
            ("[logs]\nmax_mb = 0\n", "expected a whole number, 1 or more"),
            (
                "[watch.canary]\nmisses = -1\n",
                "expected a whole number from 0 to 4294967295",
            ),
        ] {
            let error = error(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
