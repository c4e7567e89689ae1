//! Why rules were refused.

/// Why [`crate::Rules`] were refused, or why a constraint cannot continue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// A part of the rules is invalid or not supported.
    #[error("`{path}`: {reason}")]
    Refused {
        /// Where, as a path from the request's root: `response_format.json_schema.schema.properties.tags.uniqueItems`.
        path: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A limit on size or complexity was exceeded.
    #[error("`{path}` is too complex: {reason}")]
    TooComplex {
        /// Where, as in [`GrammarError::Refused`].
        path: String,
        /// Which limit.
        reason: String,
    },
    /// The model's vocabulary cannot be used for constraints.
    #[error("this model's tokenizer cannot constrain answers: {0}")]
    Vocabulary(String),
    /// A constraint that was compiled cannot continue.
    #[error("the constraint failed: {0}")]
    Failed(String),
}

impl GrammarError {
    /// The place in the request, if the request is at fault.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Refused { path, .. } | Self::TooComplex { path, .. } => Some(path),
            Self::Vocabulary(_) | Self::Failed(_) => None,
        }
    }

    /// An error of the compiler, at `path`. Its text may quote the grammar: only the line with the reason is kept.
    pub(crate) fn compile(path: &str, text: &str) -> Self {
        // An error of a regular expression shows the expression first.
        let cause = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("error: "));
        let first = cause.or_else(|| text.lines().find(|line| !line.trim().is_empty()));
        let first = match first.unwrap_or("it does not compile").trim() {
            text if text.contains("NoExtensionBias") => {
                "it accepts no text (it refers to itself without end)"
            }
            first => first,
        };
        // Places in a grammar that the caller did not write say nothing to them.
        let mut reason = first
            .rsplit("JSON schema: ")
            .next()
            .unwrap_or(first)
            .to_owned();
        reason.truncate(reason.floor_char_boundary(300));
        let limits = [
            "too complex",
            "too large",
            "fuel",
            "limit",
            "too many",
            "states",
        ];
        let lower = reason.to_lowercase();
        let path = path.to_owned();
        match limits.iter().any(|word| lower.contains(word)) {
            true => Self::TooComplex { path, reason },
            false => Self::Refused { path, reason },
        }
    }
}
