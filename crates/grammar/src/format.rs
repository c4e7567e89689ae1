//! What a request wants of its answer.

use serde_json::{Value, json};

use crate::GrammarError;
use crate::literal::quote;
use crate::schema::Schema;

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// A JSON object.
    Json,
    /// JSON that a schema accepts.
    Schema {
        /// The schema.
        schema: Value,
        /// Whether keywords that cannot be enforced are left out instead of refused.
        lenient: bool,
        /// Where the schema is in the request, for messages.
        path: String,
    },
    /// Text that a regular expression matches as a whole (Rust syntax: no look-around, no back-references).
    Regex(String),
    /// One of several texts.
    Choice(Vec<String>),
    /// Text of a context-free grammar, in llguidance's dialect of Lark.
    Lark(String),
}

/// Bytes of a grammar, regular expression or choice, at most.
const MAX_SOURCE: usize = 256 << 10;

impl Format {
    /// As the right side of a Lark rule; none for a grammar of its own.
    pub(crate) fn lark(&self) -> Result<Option<String>, GrammarError> {
        Ok(Some(match self {
            Self::Json => format!(
                "%json {}",
                Schema::embedded(&json!({"type": "object"}), false)
            ),
            Self::Schema {
                schema,
                lenient,
                path,
            } => format!(
                "%json {}",
                Schema::check(schema, path, *lenient)?.lark(*lenient)
            ),
            Self::Regex(source) => {
                bounded("guided_regex", source.len())?;
                format!("/{}/", llguidance::regex_to_lark(source, ""))
            }
            Self::Choice(choices) => {
                bounded("guided_choice", choices.iter().map(String::len).sum())?;
                if choices.is_empty() || choices.iter().any(String::is_empty) {
                    return Err(GrammarError::Refused {
                        path: "guided_choice".into(),
                        reason: "it needs at least one choice, and no choice may be empty".into(),
                    });
                }
                // One terminal: thousands of alternatives of a rule would be as many items of the parser.
                let quoted: Vec<_> = choices.iter().map(|choice| quote(choice)).collect();
                format!("CHOICE\nCHOICE: {}", quoted.join(" | "))
            }
            Self::Lark(source) => {
                bounded("guided_grammar", source.len())?;
                return Ok(None);
            }
        }))
    }

    /// Where it is in the request.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Json => "response_format",
            Self::Schema { path, .. } => path,
            Self::Regex(_) => "guided_regex",
            Self::Choice(_) => "guided_choice",
            Self::Lark(_) => "guided_grammar",
        }
    }
}

fn bounded(path: &str, bytes: usize) -> Result<(), GrammarError> {
    match bytes > MAX_SOURCE {
        true => Err(GrammarError::TooComplex {
            path: path.into(),
            reason: format!("it has {bytes} bytes, and at most {MAX_SOURCE} are accepted"),
        }),
        false => Ok(()),
    }
}
