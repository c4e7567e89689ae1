//! What a request allows.

use crate::{CallRules, Format};

/// The rules for one answer. Without either part everything is allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The form of the answer's text.
    pub answer: Option<Format>,
    /// Tool calls.
    pub calls: Option<CallRules>,
}

impl Rules {
    /// Whether they forbid anything.
    pub fn constrain(&self) -> bool {
        self.answer.is_some() || self.calls.as_ref().is_some_and(CallRules::constrain)
    }
}
