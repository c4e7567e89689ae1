//! Separates reasoning and text from the white space and tags around them.
//!
//! With thinking the prompt ends inside `<think>`, so the output is `reasoning\n</think>\n\nanswer`. The white space
//! around the reasoning, the line breaks before the answer, and the white space or code fence before a call are
//! layout. White space is therefore held until it is known what follows it.

use super::events::Events;

/// The longest name of a language after a code fence, in bytes.
const MAX_FENCE_INFO: u8 = 16;

/// The part of the output that text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputPart {
    /// Before the reasoning's first word. A model may repeat the opening tag here.
    BeforeReasoning { tag_seen: bool },
    /// In the reasoning.
    Reasoning,
    /// Between `</think>` and the answer.
    BeforeAnswer,
    /// In the answer.
    Answer,
}

/// Reports text as soon as it is certain that it is not layout.
#[derive(Clone, Debug)]
pub(super) struct LayoutFilter {
    section: OutputPart,
    /// The next `</think>` in the answer is a second one.
    drops_close: bool,
    /// White space and a code fence that may belong to a call.
    held: String,
    fence: Fence,
    /// Only white space has come since the line began.
    line_start: bool,
    /// Some of the answer was reported, or it called a function.
    answered: bool,
}

impl LayoutFilter {
    pub(super) fn new(thinking: bool) -> Self {
        Self {
            section: if thinking {
                OutputPart::BeforeReasoning { tag_seen: false }
            } else {
                OutputPart::Answer
            },
            drops_close: thinking,
            held: String::new(),
            fence: Fence::None,
            line_start: true,
            answered: false,
        }
    }

    /// Whether the output is still in the reasoning.
    pub(super) fn in_reasoning(&self) -> bool {
        matches!(
            self.section,
            OutputPart::BeforeReasoning { .. } | OutputPart::Reasoning
        )
    }

    /// Whether nothing but layout has come of the answer.
    pub(super) fn before_answer(&self) -> bool {
        !self.in_reasoning() && !self.answered
    }

    /// Whether a call may follow what is held, rather than more backticks.
    pub(super) fn may_precede_call(&self) -> bool {
        self.fence.may_precede_call()
    }

    /// Adds text.
    pub(super) fn text(&mut self, text: &str, events: &mut Events) {
        let mut rest = self.skip_layout(text);
        while let Some(c) = rest.chars().next() {
            let used = if self.fence == Fence::None && c != '`' {
                let run = &rest[..rest.find('`').unwrap_or(rest.len())];
                self.run(run, events);
                run.len()
            } else {
                self.character(c, events);
                c.len_utf8()
            };
            rest = &rest[used..];
        }
    }

    /// Skips the layout at the beginning of the reasoning or the answer.
    fn skip_layout<'a>(&mut self, text: &'a str) -> &'a str {
        let (rest, next) = match self.section {
            OutputPart::BeforeReasoning { .. } => (text.trim_start(), OutputPart::Reasoning),
            OutputPart::BeforeAnswer => (text.trim_start_matches('\n'), OutputPart::Answer),
            OutputPart::Reasoning | OutputPart::Answer => return text,
        };
        if !rest.is_empty() {
            self.section = next;
        }
        rest
    }

    /// Adds text without backticks, after which only white space is held.
    fn run(&mut self, run: &str, events: &mut Events) {
        let words = run.trim_end();
        if !words.is_empty() {
            self.release(events);
            self.report(words, events);
            self.line_start = false;
        }
        let space = &run[words.len()..];
        self.held.push_str(space);
        self.line_start |= space.contains('\n');
    }

    /// Adds a character that may belong to a code fence.
    fn character(&mut self, c: char, events: &mut Events) {
        if !self.fence.step(c, self.line_start) {
            self.release(events);
            if !self.fence.step(c, self.line_start) {
                self.report(c.encode_utf8(&mut [0; 4]), events);
                self.line_start = false;
                return;
            }
        }
        self.held.push(c);
        self.line_start = c == '\n' || (self.line_start && c.is_whitespace());
    }

    /// Handles `<think>`, written as `raw`.
    pub(super) fn open_think(&mut self, raw: &str, events: &mut Events) {
        if self.section == (OutputPart::BeforeReasoning { tag_seen: false }) {
            self.section = OutputPart::BeforeReasoning { tag_seen: true };
        } else {
            self.text(raw, events);
        }
    }

    /// Handles `</think>`, written as `raw`.
    pub(super) fn close_think(&mut self, raw: &str, events: &mut Events) {
        if self.in_reasoning() {
            self.end_reasoning(events);
            self.section = OutputPart::BeforeAnswer;
        } else if !self.drop_close() {
            self.text(raw, events);
        }
    }

    /// Whether a `</think>` in the answer is dropped. Only the first is: a later one may be text about the tag.
    pub(super) fn drop_close(&mut self) -> bool {
        std::mem::take(&mut self.drops_close)
    }

    /// A call begins: what is held was layout, and the reasoning has ended. Returns whether a code fence was opened
    /// before the call.
    pub(super) fn call(&mut self, events: &mut Events) -> bool {
        let fenced = self.fence != Fence::None && self.fence.may_precede_call();
        if !self.fence.may_precede_call() {
            self.release(events);
        }
        self.section = OutputPart::Answer;
        self.answered = true;
        self.line_start = true;
        self.fence = Fence::None;
        self.held.clear();
        fenced
    }

    /// Ends the output.
    pub(super) fn finish(&mut self, events: &mut Events) {
        if self.in_reasoning() {
            self.end_reasoning(events);
        } else {
            self.release(events);
        }
    }

    fn end_reasoning(&mut self, events: &mut Events) {
        events.reasoning(self.held.trim_end());
        self.held.clear();
        self.fence = Fence::None;
        self.line_start = true;
    }

    /// What is held is not layout.
    fn release(&mut self, events: &mut Events) {
        let mut held = std::mem::take(&mut self.held);
        self.report(&held, events);
        held.clear();
        self.held = held;
        self.fence = Fence::None;
    }

    fn report(&mut self, text: &str, events: &mut Events) {
        if self.in_reasoning() {
            events.reasoning(text);
        } else {
            self.answered |= !text.is_empty();
            events.text(text);
        }
    }
}

/// A code fence's opening line that has only white space around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Fence {
    /// Only white space so far.
    #[default]
    None,
    /// Backticks.
    Ticks(u8),
    /// Three backticks, and the language's name or white space.
    Info(u8),
    /// The line is complete.
    Line,
}

impl Fence {
    /// Adds a character. Returns `false` if it cannot belong to white space with a fence in it.
    pub(super) fn step(&mut self, c: char, line_start: bool) -> bool {
        let next = match (*self, c) {
            (Self::None | Self::Line, c) if c.is_whitespace() => *self,
            (Self::None, '`') if line_start => Self::Ticks(1),
            (Self::Ticks(n @ 1..=2), '`') => Self::Ticks(n + 1),
            (Self::Ticks(3) | Self::Info(_), '\n') => Self::Line,
            (Self::Ticks(3), ' ' | '\t' | '\r') => Self::Info(0),
            (Self::Info(n), ' ' | '\t' | '\r') => Self::Info(n),
            (Self::Ticks(3), 'a'..='z' | 'A'..='Z' | '_') => Self::Info(1),
            (Self::Info(n), 'a'..='z' | 'A'..='Z' | '_' | '-' | '0'..='9')
                if n < MAX_FENCE_INFO =>
            {
                Self::Info(n + 1)
            }
            _ => return false,
        };
        *self = next;
        true
    }

    /// Whether a call may follow, rather than more backticks.
    pub(super) fn may_precede_call(self) -> bool {
        !matches!(self, Self::Ticks(1..=2))
    }
}
