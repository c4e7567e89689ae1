//! Separates the model's reasoning from its answer.
//!
//! With thinking enabled the chat template ends the prompt with `<think>`, so the generated text begins inside the
//! block: `reasoning\n</think>\n\nanswer`. The white space around the reasoning and the line breaks before the answer
//! are layout, as the template treats them when it renders the turn again.

use crate::text::partial_match::begun;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits generated text that arrives in pieces.
#[derive(Clone, Debug)]
pub struct ReasoningSplitter {
    state: ReasoningState,
    /// Text that is not final yet.
    held: String,
}

/// Text that is final.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The reasoning.
    pub reasoning: String,
    /// The answer.
    pub content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReasoningState {
    /// Before the first word of the reasoning; a model may repeat the opening tag here.
    Opening { tag_seen: bool },
    /// In the reasoning.
    Reasoning,
    /// Between the closing tag and the answer.
    Closed,
    /// In the answer.
    Content,
}

impl ReasoningSplitter {
    /// A splitter at the start of the generated text; without `thinking` everything is content.
    pub fn new(thinking: bool) -> Self {
        Self {
            state: if thinking {
                ReasoningState::Opening { tag_seen: false }
            } else {
                ReasoningState::Content
            },
            held: String::new(),
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, text: &str) -> Split {
        self.held.push_str(text);
        let mut split = Split::default();
        loop {
            match self.state {
                ReasoningState::Opening { tag_seen } => {
                    let start = self.held.trim_start();
                    if !tag_seen && let Some(rest) = start.strip_prefix(OPEN) {
                        self.held = rest.to_owned();
                        self.state = ReasoningState::Opening { tag_seen: true };
                    } else if start.is_empty() || (!tag_seen && OPEN.starts_with(start)) {
                        return split;
                    } else {
                        self.held = start.to_owned();
                        self.state = ReasoningState::Reasoning;
                    }
                }
                ReasoningState::Reasoning => {
                    if let Some(at) = self.held.find(CLOSE) {
                        split.reasoning.push_str(self.held[..at].trim_end());
                        self.held.drain(..at + CLOSE.len());
                        self.state = ReasoningState::Closed;
                    } else {
                        let certain = self.held.len() - begun(&self.held, CLOSE);
                        let certain = self.held[..certain].trim_end().len();
                        split.reasoning.extend(self.held.drain(..certain));
                        return split;
                    }
                }
                ReasoningState::Closed => {
                    let start = self.held.trim_start_matches('\n');
                    self.held = start.to_owned();
                    if self.held.is_empty() {
                        return split;
                    }
                    self.state = ReasoningState::Content;
                }
                ReasoningState::Content => {
                    split.content.push_str(&self.held);
                    self.held.clear();
                    return split;
                }
            }
        }
    }

    /// Ends the text. Reasoning that was never closed stays reasoning.
    pub fn finish(&mut self) -> Split {
        let held = std::mem::take(&mut self.held);
        let reasoning = if held.trim().is_empty() {
            String::new()
        } else {
            held
        };
        Split {
            reasoning,
            content: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(pieces: &[&str], thinking: bool) -> (String, String) {
        let mut splitter = ReasoningSplitter::new(thinking);
        let mut all = Split::default();
        for piece in pieces {
            let split = splitter.push(piece);
            all.reasoning.push_str(&split.reasoning);
            all.content.push_str(&split.content);
        }
        let split = splitter.finish();
        all.reasoning.push_str(&split.reasoning);
        all.content.push_str(&split.content);
        (all.reasoning, all.content)
    }

    #[test]
    fn closing_tag_split_anywhere_is_found() {
        let expected = ("Two and\ntwo.".into(), "4".into());
        assert_eq!(
            split(&["Two and\ntwo.\n</th", "ink>\n", "\n4"], true),
            expected
        );
        assert_eq!(
            split(&["<think>\nTwo and\ntwo.\n</think>\n\n4"], true),
            expected
        );
    }

    #[test]
    fn final_text_is_emitted_at_once() {
        let mut splitter = ReasoningSplitter::new(true);
        assert_eq!(splitter.push("I think <").reasoning, "I think");
        assert_eq!(splitter.push("/b>").reasoning, " </b>");
        assert_eq!(splitter.push("</think>A </think>").content, "A </think>");
    }

    #[test]
    fn text_without_thinking_is_content() {
        assert_eq!(
            split(&["\n a</think>"], false),
            (String::new(), "\n a</think>".into())
        );
    }

    #[test]
    fn unfinished_reasoning_stays_reasoning() {
        assert_eq!(
            split(&["So </thi"], true),
            ("So </thi".into(), String::new())
        );
        assert_eq!(split(&["So \n"], true), ("So".into(), String::new()));
        assert_eq!(split(&["\n<thi"], true), ("\n<thi".into(), String::new()));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_result(
            pieces in prop::collection::vec(
                prop_oneof!["<think>", "</think>", "[a \n<>/é]{0,3}", "</th", "ink>"], 0..10),
            thinking in any::<bool>(),
        ) {
            let cut: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let whole = pieces.concat();
            let chars: Vec<String> = whole.chars().map(String::from).collect();
            let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
            let expected = split(&[&whole], thinking);
            prop_assert_eq!(&split(&cut, thinking), &expected);
            prop_assert_eq!(&split(&chars, thinking), &expected);
        }
    }
}
