//! Why a body cannot be translated.

use std::fmt;

use crate::api::client_path::Path;

/// A request that cannot be translated: the server answers 400.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TranslationError {
    /// The place in the client's body.
    pub param: Option<String>,
    /// What is wrong with it, and what to send instead.
    pub message: String,
}

impl TranslationError {
    /// A value that cannot be honoured. `message` names the path and the fix.
    pub(crate) fn new(path: &Path, message: impl Into<String>) -> Self {
        Self {
            param: Some(path.to_string()),
            message: message.into(),
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

    /// A value that the protocol knows and this server does not support. `fix` says what to do about it.
    pub(crate) fn unsupported(path: &Path, fix: &str) -> Self {
        Self::new(path, format!("`{path}` is not supported: {fix}"))
    }
}

impl fmt::Display for TranslationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TranslationError {}
