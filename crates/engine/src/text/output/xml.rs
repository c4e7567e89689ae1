//! The XML form of a call, from `<function=NAME>` to its end.
//!
//! The call has started, so everything up to its end is read as part of it. [`ValueReader`] decides where a
//! parameter's value ends; this file has the tags between the values.

use std::collections::HashSet;

use super::events::Events;
use super::json::bare_arguments;
use super::literal::quote;
use super::schema::Functions;
use super::tags::Tag;
use super::value::{ValueEnd, ValueReader};

/// A call that has started.
#[derive(Clone, Debug)]
pub(super) struct XmlCall {
    index: usize,
    function: String,
    opened_by: OpenedBy,
    /// The parameters so far.
    given: HashSet<String>,
    value: Option<ValueReader>,
    /// Text between the tags, where none belongs.
    stray: String,
}

/// What came before `<function=NAME>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenedBy {
    /// `<tool_call>`.
    pub(super) block: bool,
    /// A code fence that is still open.
    pub(super) fence: bool,
    /// A grammar constrains the call.
    pub(super) exact: bool,
}

impl OpenedBy {
    /// Whether `</tool_call>` is what follows `</function>`, so that any other text after it belongs to a value.
    fn needs_close(self) -> bool {
        self.block && !self.fence
    }
}

/// The state of a call after a piece of the output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CallProgress {
    /// It continues.
    Open,
    /// It has ended, and the tag belongs to it.
    Ended,
    /// It has ended before the tag.
    EndedBefore,
    /// It has ended before this byte of the text.
    EndedAt(usize),
}

/// What a call reads and reports with.
pub(super) struct CallContext<'a> {
    pub(super) functions: &'a mut Functions,
    pub(super) events: &'a mut Events,
}

impl XmlCall {
    pub(super) fn start(
        index: usize,
        function: String,
        opened_by: OpenedBy,
        events: &mut Events,
    ) -> Self {
        events.start(index, function.clone());
        Self {
            index,
            function,
            opened_by,
            given: HashSet::new(),
            value: None,
            stray: String::new(),
        }
    }

    pub(super) fn in_block(&self) -> bool {
        self.opened_by.block
    }

    pub(super) fn text(&mut self, text: &str, context: &mut CallContext) -> CallProgress {
        if let Some(value) = &mut self.value
            && self.opened_by.exact
        {
            if value.exact_text(text, self.index, context.events) {
                self.close_value(context);
            }
            return CallProgress::Open;
        }
        match &mut self.value {
            Some(value) => match value.text(
                text,
                self.opened_by.needs_close(),
                self.index,
                context.events,
            ) {
                None => CallProgress::Open,
                Some(at) => {
                    self.close_value(context);
                    self.end(context);
                    CallProgress::EndedAt(at)
                }
            },
            None => {
                let text = if self.stray.is_empty() {
                    text.trim_start()
                } else {
                    text
                };
                self.stray.push_str(text);
                CallProgress::Open
            }
        }
    }

    pub(super) fn tag(&mut self, tag: &Tag, raw: &str, context: &mut CallContext) -> CallProgress {
        let Some(value) = &mut self.value else {
            return self.tag_between(tag, raw, context);
        };
        if self.opened_by.exact {
            value.exact_tag(tag, raw, self.index, context.events);
            return CallProgress::Open;
        }
        let open = match tag {
            Tag::Parameter { name } => {
                context.functions.has_property(&self.function, name)
                    && !self.given.contains(name)
                    && name != value.name()
            }
            Tag::Function { name, .. } => context.functions.declares(name),
            _ => false,
        };
        match value.tag(
            tag,
            raw,
            open,
            self.opened_by.needs_close(),
            self.index,
            context.events,
        ) {
            ValueEnd::Open => CallProgress::Open,
            ValueEnd::Parameter => {
                self.close_value(context);
                self.tag_between(tag, raw, context)
            }
            ValueEnd::Call => {
                self.close_value(context);
                self.end(context);
                CallProgress::EndedBefore
            }
        }
    }

    fn tag_between(&mut self, tag: &Tag, raw: &str, context: &mut CallContext) -> CallProgress {
        match tag {
            Tag::Parameter { name } => {
                self.open_value(name, context);
                return CallProgress::Open;
            }
            // Closes nothing.
            Tag::CloseParameter => return CallProgress::Open,
            Tag::CloseFunction => {}
            Tag::Function { .. } | Tag::OpenCall | Tag::CloseCall => {
                self.end(context);
                return CallProgress::EndedBefore;
            }
            Tag::OpenThink | Tag::CloseThink => {
                self.stray.push_str(raw);
                return CallProgress::Open;
            }
        }
        self.end(context);
        CallProgress::Ended
    }

    /// Completes the call at the natural end of the output, with the closing tags that are missing.
    pub(super) fn finish(&mut self, context: &mut CallContext) {
        if let Some(value) = &mut self.value {
            value.finish();
            self.close_value(context);
        }
        self.end(context);
    }

    /// Leaves the call open at a cut.
    pub(super) fn cut(&mut self, events: &mut Events) {
        events.text(self.stray.trim_end());
    }

    fn open_value(&mut self, name: &str, context: &mut CallContext) {
        let types = context.functions.types(&self.function, name);
        let value = ValueReader::new(name.to_owned(), types);
        if types.is_string() {
            self.member(name, context.events);
            context.events.arguments(self.index, "\"");
        }
        self.value = Some(value);
    }

    fn close_value(&mut self, context: &mut CallContext) {
        let Some(value) = self.value.take() else {
            return;
        };
        if value.types().is_string() {
            context.events.arguments(self.index, "\"");
        } else {
            let (name, text) = (value.name(), value.written());
            let json = match context.functions.lists(&self.function, name, text) {
                true => quote(text),
                false => value.read(),
            };
            self.member(name, context.events);
            context.events.arguments(self.index, &json);
        }
    }

    /// Begins a member of the arguments.
    fn member(&mut self, name: &str, events: &mut Events) {
        let separator = if self.given.is_empty() { "{" } else { "," };
        self.given.insert(name.to_owned());
        events.arguments(self.index, separator);
        events.arguments(self.index, &quote(name));
        events.arguments(self.index, ":");
    }

    fn end(&mut self, context: &mut CallContext) {
        let mut stray = self.stray.trim_end();
        if !self.given.is_empty() {
            context.events.arguments(self.index, "}");
        } else if let Some(arguments) = bare_arguments(&self.function, stray, context.functions) {
            context.events.arguments(self.index, &arguments);
            stray = "";
        } else {
            context.events.arguments(self.index, "{}");
        }
        context.events.end(self.index);
        context.events.text(stray);
    }
}
