//! Where a parameter's value ends.
//!
//! A value may hold anything, tags included: models write files that document tool calls. So a closing tag ends it
//! only by what follows. [`ValueReader`] holds a closing sequence, the *tail*, until that is known: some of
//! `</parameter>`, `</function>` and `</tool_call>`, in this order, with white space between.
//!
//! | after a tail that ends with | the value ends before |
//! | --- | --- |
//! | `</parameter>` | a parameter, function or call that opens, if the tag starts a line or closes an inline value |
//! | `</function>` | `</tool_call>`, or a call or declared function that opens |
//! | `</function>`, without `<tool_call>` or in a code fence | anything |
//! | `</tool_call>` | another `<tool_call>` |
//! | nothing at all | a parameter that starts a line and is a property that was not given yet |
//! | any of them | that same parameter, or the end of the output |
//!
//! A tail that none of this confirms is part of the value. Between a `<tool_call>` and its `</tool_call>` inside the
//! value nothing ends it but the end of the output.
//!
//! Where a grammar constrains the call, a value ends exactly where the grammar says: before the first line break,
//! `</parameter>` and line break.

use super::events::Events;
use super::tags::Tag;
use super::types::Types;

/// Reads one value.
#[derive(Clone, Debug)]
pub(super) struct ValueReader {
    name: String,
    types: Types,
    /// The value so far, unless it is a string: that was reported.
    text: String,
    /// The value begins on its tag's line; `None` before its first character.
    inline: Option<bool>,
    /// The last character was a line break.
    line_start: bool,
    /// A line break that is part of the value only if more follows.
    held_newline: bool,
    tail: Option<Tail>,
    nested: Nested,
}

/// A closing sequence, as written.
#[derive(Clone, Debug)]
struct Tail {
    raw: String,
    last: Closer,
    /// A `</parameter>` where one is expected.
    proper: bool,
    /// It closes a call inside the value.
    nested: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closer {
    Parameter,
    Function,
    Call,
}

/// Whole calls inside the value.
#[derive(Clone, Copy, Debug, Default)]
struct Nested {
    depth: u32,
    /// A `<tool_call>` has just come.
    opening: bool,
}

/// The closing tag of a value as a grammar has it.
const CLOSE: &str = "</parameter>";

/// What ends a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueEnd {
    /// Nothing yet.
    Open,
    /// The tag is outside of the value, and inside of the call.
    Parameter,
    /// The call ends with the value, before the tag.
    Call,
}

impl ValueReader {
    pub(super) fn new(name: String, types: Types) -> Self {
        Self {
            name,
            types,
            text: String::new(),
            inline: None,
            line_start: false,
            held_newline: false,
            tail: None,
            nested: Nested::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn types(&self) -> Types {
        self.types
    }

    /// The value's text, if it is not a string.
    pub(super) fn written(&self) -> &str {
        &self.text
    }

    /// The value as JSON, if it is not a string.
    pub(super) fn read(&self) -> String {
        self.types.read(&self.text)
    }

    /// Adds text. Returns the offset in it at which the call ended, if it ended.
    pub(super) fn text(
        &mut self,
        text: &str,
        needs_close: bool,
        index: usize,
        events: &mut Events,
    ) -> Option<usize> {
        let mut rest = text;
        if let Some(tail) = &mut self.tail {
            let words = text.trim_start();
            let (space, words) = text.split_at(text.len() - words.len());
            tail.raw.push_str(space);
            if let Some(last) = space.chars().last() {
                self.line_start = last == '\n';
            }
            if words.is_empty() {
                return None;
            }
            if !needs_close && tail.last == Closer::Function && !tail.nested {
                return Some(space.len());
            }
            self.release_tail(index, events);
            rest = words;
        }
        self.nested.opening &= rest.trim_start().is_empty();
        self.add(rest, index, events);
        None
    }

    /// Adds text to a value of a call that a grammar constrains. True if the value has ended before it: the rest is layout.
    pub(super) fn exact_text(&mut self, text: &str, index: usize, events: &mut Events) -> bool {
        if self.tail.is_some() && text.starts_with('\n') {
            self.finish();
            return true;
        }
        self.release_tail(index, events);
        self.add(text, index, events);
        false
    }

    /// The same for a tag, which ends no value by itself.
    pub(super) fn exact_tag(&mut self, tag: &Tag, raw: &str, index: usize, events: &mut Events) {
        self.release_tail(index, events);
        if self.held_newline && *tag == Tag::CloseParameter && raw == CLOSE {
            self.tail = Some(Tail {
                raw: raw.to_owned(),
                last: Closer::Parameter,
                proper: true,
                nested: false,
            });
        } else {
            self.add(raw, index, events);
        }
    }

    /// Handles a tag. `open` says that it names a property that was not given yet, or a declared function; `needs_close`
    /// that `</function>` counts only before `</tool_call>`.
    pub(super) fn tag(
        &mut self,
        tag: &Tag,
        raw: &str,
        open: bool,
        needs_close: bool,
        index: usize,
        events: &mut Events,
    ) -> ValueEnd {
        self.inline.get_or_insert(true);
        if self.nested.depth == 0 && self.tail.as_ref().is_some_and(|tail| tail.nested) {
            self.release_tail(index, events);
        }
        let end = self.ends_before(tag, open, needs_close);
        if end != ValueEnd::Open {
            self.finish();
            return end;
        }
        let closer = match tag {
            Tag::CloseParameter => Closer::Parameter,
            Tag::CloseFunction => Closer::Function,
            Tag::CloseCall => Closer::Call,
            _ => {
                self.release_tail(index, events);
                self.nest(tag);
                self.add(raw, index, events);
                return ValueEnd::Open;
            }
        };
        self.nested.opening = false;
        self.close(closer, raw, index, events);
        ValueEnd::Open
    }

    fn ends_before(&self, tag: &Tag, open: bool, needs_close: bool) -> ValueEnd {
        if self.nested.depth > 0 {
            return ValueEnd::Open;
        }
        let last = self.tail.as_ref().map(|tail| tail.last);
        let proper = self.tail.as_ref().is_some_and(|tail| tail.proper);
        if matches!(tag, Tag::Parameter { .. })
            && ((open && self.line_start) || (proper && last == Some(Closer::Parameter)))
        {
            return ValueEnd::Parameter;
        }
        let ended = match (last, tag) {
            (Some(Closer::Parameter), Tag::OpenCall) => proper,
            (Some(Closer::Parameter), Tag::Function { .. }) => proper && open,
            (Some(Closer::Function), Tag::OpenCall | Tag::CloseCall) => true,
            (Some(Closer::Function), Tag::Function { .. }) => open || !needs_close,
            (Some(Closer::Function), _) => !needs_close,
            (Some(Closer::Call), Tag::OpenCall) => true,
            _ => false,
        };
        if ended {
            ValueEnd::Call
        } else {
            ValueEnd::Open
        }
    }

    /// Follows calls inside the value. `<tool_call>` alone is a word; with a function behind it, it is a call.
    fn nest(&mut self, tag: &Tag) {
        let opened = std::mem::take(&mut self.nested.opening);
        match tag {
            Tag::OpenCall => self.nested.opening = true,
            Tag::Function { .. } if opened => self.nested.depth += 1,
            _ => {}
        }
    }

    /// Begins or extends the tail.
    fn close(&mut self, closer: Closer, raw: &str, index: usize, events: &mut Events) {
        let follows = match (self.tail.as_ref().map(|tail| tail.last), closer) {
            (Some(Closer::Parameter), Closer::Function | Closer::Call) => true,
            (Some(Closer::Function), Closer::Call) => true,
            (Some(_), _) => false,
            (None, _) => true,
        };
        if !follows {
            self.release_tail(index, events);
        }
        let proper = self.line_start || self.inline == Some(true);
        let tail = self.tail.get_or_insert_with(|| Tail {
            raw: String::new(),
            last: closer,
            proper: proper && closer == Closer::Parameter,
            nested: self.nested.depth > 0,
        });
        tail.raw.push_str(raw);
        tail.last = closer;
        self.line_start = false;
        if closer == Closer::Call {
            self.nested.depth = self.nested.depth.saturating_sub(1);
        }
    }

    /// The output or the value ends: the tail and the line break before it are layout.
    pub(super) fn finish(&mut self) {
        self.tail = None;
        self.held_newline = false;
    }

    fn release_tail(&mut self, index: usize, events: &mut Events) {
        if let Some(tail) = self.tail.take() {
            self.add(&tail.raw, index, events);
        }
    }

    /// Adds text to the value, except one line break at its beginning and, until more follows, one at its end.
    fn add(&mut self, text: &str, index: usize, events: &mut Events) {
        if text.is_empty() {
            return;
        }
        let mut text = text;
        self.line_start = text.ends_with('\n');
        if self.inline.is_none() {
            let rest = text.strip_prefix('\n');
            self.inline = Some(rest.is_none());
            text = rest.unwrap_or(text);
            if text.is_empty() {
                return;
            }
        }
        if std::mem::take(&mut self.held_newline) {
            self.report("\n", index, events);
        }
        if let Some(before) = text.strip_suffix('\n') {
            self.held_newline = true;
            text = before;
        }
        self.report(text, index, events);
    }

    fn report(&mut self, text: &str, index: usize, events: &mut Events) {
        if text.is_empty() {
            return;
        }
        if self.types.is_string() {
            events.escaped(index, text);
        } else {
            self.text.push_str(text);
        }
    }
}
