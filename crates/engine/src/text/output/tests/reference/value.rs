//! Where a value ends, by all that follows it.

use std::collections::HashSet;

use super::super::super::tags::Tag;
use super::scan::{is_partial_tag, tag_at};
use super::{OutputEnd, ReferenceParser};

pub(super) struct Value {
    /// The end of its text.
    pub(super) end: usize,
    /// Where the tag is that ended it.
    pub(super) next: usize,
    pub(super) complete: bool,
    pub(super) ends_call: bool,
}

impl ReferenceParser<'_> {
    /// Where the value that begins at `start` ends.
    pub(super) fn value(
        &mut self,
        function: &str,
        start: usize,
        needs_close: bool,
        given: &HashSet<String>,
    ) -> Value {
        let text = self.text;
        let inline = !text[start..].starts_with('\n');
        let line_start = |at: usize| at > start && text[..at].ends_with('\n');
        let mut depth = 0;
        let mut at = start;
        loop {
            if at == text.len() {
                let complete = self.end == OutputEnd::Stop;
                return Value {
                    end: at,
                    next: at,
                    complete,
                    ends_call: false,
                };
            }
            // The closing sequence that begins here, and what follows it.
            let nested = depth > 0;
            let mut tail = Vec::new();
            let mut next = at;
            while let Some((tag, after)) = tag_at(text, next) {
                let extends = match (tail.last(), &tag) {
                    (None, Tag::CloseParameter | Tag::CloseFunction | Tag::CloseCall) => true,
                    (Some(Tag::CloseParameter), Tag::CloseFunction | Tag::CloseCall) => true,
                    (Some(Tag::CloseFunction), Tag::CloseCall) => nested,
                    _ => false,
                };
                if !extends {
                    break;
                }
                tail.push(tag);
                next = self.skip_space(after);
            }
            let last = tail.last();
            if nested && last == Some(&Tag::CloseCall) {
                depth -= 1;
            }
            let follows = tag_at(text, next);
            let at_end = next == text.len();
            if last.is_some() && at_end && self.end == OutputEnd::Stop {
                return Value {
                    end: at,
                    next,
                    complete: true,
                    ends_call: false,
                };
            }
            if self.end == OutputEnd::Length
                && follows.is_none()
                && (at_end || is_partial_tag(&text[next..]))
            {
                return Value {
                    end: at,
                    next,
                    complete: false,
                    ends_call: false,
                };
            }
            let proper = tail.first() == Some(&Tag::CloseParameter) && (line_start(at) || inline);
            let new_property = |this: &mut Self, tag: &Tag, at: usize| match tag {
                Tag::Parameter { name } => {
                    line_start(at)
                        && !given.contains(name)
                        && this.functions.has_property(function, name)
                }
                _ => false,
            };
            if !nested {
                let property = follows
                    .as_ref()
                    .is_some_and(|(tag, _)| new_property(self, tag, next));
                let parameter = matches!(follows, Some((Tag::Parameter { .. }, _)));
                if property || (parameter && proper && last == Some(&Tag::CloseParameter)) {
                    return Value {
                        end: at,
                        next,
                        complete: true,
                        ends_call: false,
                    };
                }
                let declared = match &follows {
                    Some((Tag::Function { name, .. }, _)) => self.functions.declares(name),
                    _ => false,
                };
                let opens = matches!(follows, Some((Tag::OpenCall, _)));
                let closes = matches!(follows, Some((Tag::CloseCall, _)));
                let ends_call = match last {
                    Some(Tag::CloseParameter) => proper && (opens || declared),
                    Some(Tag::CloseFunction) => opens || closes || declared || !needs_close,
                    Some(Tag::CloseCall) => opens,
                    _ => false,
                };
                if ends_call {
                    return Value {
                        end: at,
                        next,
                        complete: true,
                        ends_call,
                    };
                }
            }
            if last.is_some() {
                at = next;
                // What follows was only looked at as the end of this sequence. As part of the value it is read below,
                // except for another closing sequence.
                if depth == 0
                    && let Some((tag, _)) = tag_at(text, at)
                    && new_property(self, &tag, at)
                {
                    return Value {
                        end: at,
                        next: at,
                        complete: true,
                        ends_call: false,
                    };
                }
                if matches!(
                    tag_at(text, at),
                    Some((Tag::CloseParameter | Tag::CloseFunction | Tag::CloseCall, _))
                ) {
                    continue;
                }
            }
            match tag_at(text, at) {
                Some((Tag::OpenCall, after)) => {
                    at = after;
                    if let Some((Tag::Function { .. }, body)) = tag_at(text, self.skip_space(after))
                    {
                        depth += 1;
                        at = body;
                    }
                }
                Some((_, after)) => at = after,
                None => at += text[at..].chars().next().map_or(0, char::len_utf8),
            }
        }
    }
}
