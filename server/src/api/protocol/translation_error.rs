//! Why a body cannot be translated.

use std::fmt;

use serde_json::Value;

use crate::api::client_path::Path;
use crate::api::fields::shown;

/// A request that cannot be translated: the server answers 400.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TranslationError {
    /// The place in the client's body.
    pub param: Option<String>,
    /// What is wrong with it, and what to send instead.
    pub message: String,
    /// A word that programs can match on.
    pub code: Option<&'static str>,
}

impl TranslationError {
    /// A value that cannot be honoured. `message` names the path and the fix.
    pub(crate) fn new(path: &Path, message: impl Into<String>) -> Self {
        Self {
            param: Some(path.to_string()),
            message: message.into(),
            code: None,
        }
    }

    /// The same with a code.
    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// A required field is absent.
    pub(crate) fn missing(path: &Path) -> Self {
        Self::new(path, format!("`{path}` is missing or null"))
    }

    /// A value has the wrong type. `what` says which one is right: "a string".
    pub(crate) fn must_be(path: &Path, what: &str) -> Self {
        Self::new(path, format!("`{path}` must be {what}"))
    }

    /// The same, with the value that is wrong.
    pub(crate) fn must_be_not(path: &Path, what: &str, value: &Value) -> Self {
        Self::new(
            path,
            format!("`{path}` must be {what}, not {}", shown(value)),
        )
    }

    /// A value that the protocol knows and this server does not support. `fix` says what to do about it.
    pub(crate) fn unsupported(path: &Path, fix: &str) -> Self {
        Self::new(path, format!("`{path}` is not supported: {fix}"))
            .with_code("unsupported_parameter")
    }
}

impl fmt::Display for TranslationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TranslationError {}
