//! `parity-smoke.json`: the questions, and what is expected of the answers. Operators edit it, so an error names the prompt
//! and the key.
//!
//! ```json
//! {
//!   "defaults": { "max_tokens": 64, "request": { "chat_template_kwargs": { "enable_thinking": false } } },
//!   "prompts": [
//!     { "name": "sum", "prompt": "What is 47 + 38?", "regex": "\\b85\\b" },
//!     { "name": "capital", "prompt": "What is the capital of Japan?", "substring": "Tokyo" },
//!     { "name": "memory", "messages": [{ "role": "user", "content": "…" }], "exact": "Your name is Rosalind." }
//!   ]
//! }
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use regex::Regex;
use sanctum_client::{ChatMessage, ChatRequest};
use sanctum_config::files;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The default of `max_tokens`.
const MAX_TOKENS: u32 = 64;

/// Fields of the request that the spec has its own keys for, or that would change what parity means.
const RESERVED: [&str; 7] = [
    "messages",
    "model",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "stream",
    "n",
];

/// The questions in their order.
#[derive(Clone, Debug)]
pub struct Spec {
    /// One or more, each with its own name.
    pub prompts: Vec<Prompt>,
}

/// One question.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its name in alerts and reports.
    pub name: String,
    /// The request.
    pub request: ChatRequest,
    /// What is expected of the answer.
    pub expect: ExpectedAnswer,
}

/// What is expected of an answer. White space around the answer does not count.
#[derive(Clone, Debug)]
pub enum ExpectedAnswer {
    /// It contains this text.
    Substring(String),
    /// It matches this expression.
    Regex(Regex),
    /// It equals this text.
    Exact(String),
}

/// A spec that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It cannot be read.
    #[error("cannot read the spec {}: {source}; docs/parity-smoke.json is an example", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is not JSON in this format.
    #[error("{}: {source}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The error, with its line.
        source: serde_json::Error,
    },
    /// A part of it has no meaning.
    #[error("{}: {why}", path.display())]
    Meaning {
        /// The file.
        path: PathBuf,
        /// Which, and what to write instead.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Defaults,
    prompts: Vec<QuestionEntry>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    model: Option<String>,
    max_tokens: Option<u32>,
    #[serde(default)]
    request: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionEntry {
    name: String,
    prompt: Option<String>,
    messages: Option<Vec<ChatMessage>>,
    substring: Option<String>,
    regex: Option<String>,
    exact: Option<String>,
    model: Option<String>,
    max_tokens: Option<u32>,
    #[serde(default)]
    request: Map<String, Value>,
}

/// The largest spec that is read, in bytes.
const LARGEST: u64 = 16 << 20;

impl Spec {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or used; the error names the prompt and the key.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = files::read(path, LARGEST).map_err(|source| SpecError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a file; `path` is for the messages only.
    ///
    /// # Errors
    /// As [`Spec::read`].
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, SpecError> {
        let file: File = serde_json::from_slice(text).map_err(|source| SpecError::Form {
            path: path.to_owned(),
            source,
        })?;
        let meaning = |why: String| SpecError::Meaning {
            path: path.to_owned(),
            why,
        };
        if file.prompts.is_empty() {
            return Err(meaning("`prompts` is empty; add a prompt".to_owned()));
        }
        let mut names = BTreeSet::new();
        let mut prompts = Vec::new();
        for (at, entry) in file.prompts.into_iter().enumerate() {
            let name = entry.name.clone();
            if name.trim().is_empty() {
                return Err(meaning(format!("prompt {} has an empty `name`", at + 1)));
            }
            if !names.insert(name.clone()) {
                return Err(meaning(format!(
                    "two prompts have the name `{name}`; rename one of them"
                )));
            }
            let prompt = entry.read(&file.defaults);
            prompts.push(prompt.map_err(|why| meaning(format!("prompt `{name}`: {why}")))?);
        }
        Ok(Self { prompts })
    }
}

impl QuestionEntry {
    fn read(self, defaults: &Defaults) -> Result<Prompt, String> {
        let messages = match (self.prompt, self.messages) {
            (Some(text), None) => ChatRequest::user(&text, 0).messages,
            (None, Some(messages)) if !messages.is_empty() => messages,
            (None, Some(_)) => return Err("`messages` is empty".to_owned()),
            _ => return Err("write one of `prompt` and `messages`".to_owned()),
        };
        let expect = match (self.substring, self.regex, self.exact) {
            (Some(text), None, None) if text.is_empty() => {
                return Err("`substring` is empty, which every answer contains".to_owned());
            }
            (Some(text), None, None) => ExpectedAnswer::Substring(text),
            (None, Some(text), None) => ExpectedAnswer::Regex(
                Regex::new(&text).map_err(|error| format!("`regex`: {error}"))?,
            ),
            (None, None, Some(text)) => ExpectedAnswer::Exact(text.trim().to_owned()),
            _ => return Err("write one of `substring`, `regex` and `exact`".to_owned()),
        };
        let max_tokens = self
            .max_tokens
            .or(defaults.max_tokens)
            .unwrap_or(MAX_TOKENS);
        if max_tokens == 0 {
            return Err(
                "`max_tokens` is 0, so there would be no answer; write at least 1".to_owned(),
            );
        }
        let mut more = defaults.request.clone();
        more.extend(self.request);
        if let Some(name) = RESERVED.iter().find(|name| more.contains_key(**name)) {
            return Err(format!(
                "`request` must not set `{name}`: parity asks at temperature 0, and the prompt has its own keys for the rest"
            ));
        }
        Ok(Prompt {
            name: self.name,
            request: ChatRequest {
                messages,
                model: self.model.or_else(|| defaults.model.clone()),
                max_tokens,
                more,
            },
            expect,
        })
    }
}

impl ExpectedAnswer {
    /// Whether an answer is as expected.
    pub fn matches(&self, answer: &str) -> bool {
        match self {
            Self::Substring(text) => answer.contains(text),
            Self::Regex(regex) => regex.is_match(answer),
            Self::Exact(text) => answer.trim() == text,
        }
    }
}

impl fmt::Display for ExpectedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Substring(text) => write!(f, "a text with `{text}`"),
            Self::Regex(regex) => write!(f, "a text that matches /{regex}/"),
            Self::Exact(text) => write!(f, "`{text}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Spec, SpecError> {
        Spec::parse(text.as_bytes(), Path::new("parity-smoke.json"))
    }

    #[test]
    fn defaults_apply_to_prompts_without_the_key() {
        let spec = parse(
            r#"{ "defaults": { "max_tokens": 8, "model": "m", "request": { "seed": 1, "top_p": 1 } },
                 "prompts": [
                    { "name": "a", "prompt": "2+2?", "exact": " 4 " },
                    { "name": "b", "messages": [{ "role": "user", "content": "hi" }], "regex": "(?i)\\bhello\\b",
                      "max_tokens": 9, "request": { "seed": 2 } } ] }"#,
        )
        .unwrap();
        let [a, b] = &spec.prompts[..] else { panic!() };
        assert_eq!(
            a.request.body().to_string(),
            r#"{"model":"m","messages":[{"role":"user","content":"2+2?"}],"temperature":0,"max_tokens":8,"seed":1,"top_p":1}"#
        );
        assert_eq!(
            (b.request.max_tokens, &b.request.more["seed"]),
            (9, &2.into())
        );
        assert!(a.expect.matches("4\n") && !a.expect.matches("14"));
        assert!(b.expect.matches("Hello!") && !b.expect.matches("Othello"));
    }

    #[test]
    fn error_names_the_prompt_and_the_key() {
        let prompt = |text: &str| format!(r#"{{ "prompts": [{{ "name": "a", {text} }}] }}"#);
        let cases = [
            (r#"{ "prompts": [] }"#.to_owned(), "`prompts` is empty"),
            (r#"{ "promts": [] }"#.to_owned(), "unknown field `promts`"),
            (prompt(r#""prompt": "x", "substring": "y", "max_token": 3"#), "unknown field `max_token`"),
            (prompt(r#""prompt": "x", "substring": """#), "prompt `a`: `substring` is empty"),
            (prompt(r#""prompt": "x""#), "one of `substring`, `regex` and `exact`"),
            (prompt(r#""prompt": "x", "exact": "y", "regex": "y""#), "one of `substring`"),
            (prompt(r#""substring": "y""#), "one of `prompt` and `messages`"),
            (prompt(r#""prompt": "x", "regex": "(""#), "prompt `a`: `regex`"),
            (prompt(r#""prompt": "x", "exact": "y", "request": { "temperature": 1 }"#), "must not set `temperature`"),
            (
                r#"{ "prompts": [{ "name": "a", "prompt": "x", "exact": "y" }, { "name": "a", "prompt": "x", "exact": "y" }] }"#
                    .to_owned(),
                "two prompts have the name `a`",
            ),
        ];
        for (text, words) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(error.starts_with("parity-smoke.json: "), "{error}");
        }
    }

    #[test]
    fn example_spec_in_docs_has_ten_prompts() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/parity-smoke.json");
        assert_eq!(Spec::read(Path::new(path)).unwrap().prompts.len(), 10);
    }
}
