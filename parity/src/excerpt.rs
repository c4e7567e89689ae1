//! What messages show of a question or an answer, and where reports are kept.

use std::path::PathBuf;

use sanctum_config::{Home, Label, UntrustedText};

/// What a message shows of a text, in characters.
const SHOWN: usize = 120;

/// The beginning of a text, on one line that is safe to show.
pub(crate) fn excerpt(text: &str) -> UntrustedText {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    UntrustedText::bounded(&words, SHOWN)
}

/// The folder of a watchdog's reports and recorded answers: `state/parity/NAME/`.
pub(crate) fn folder(home: &Home, agent: &Label) -> PathBuf {
    home.state().join("parity").join(agent.as_str())
}
