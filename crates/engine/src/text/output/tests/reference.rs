//! A slow parser that has the whole output before it: the specification of the incremental one.
//!
//! It holds nothing and decides everything by looking ahead. Its time is quadratic and worse. Only the values are read
//! by the same code, which has tests of its own.

mod scan;
mod value;

use std::collections::HashSet;

use super::super::json::{self, ObjectKind};
use super::super::literal::quote;
use super::super::schema::Functions;
use super::super::tags::Tag;
use super::{OutputEnd, OutputEvent, OutputOptions};
use scan::{ReferenceFence, has_fence, is_partial_tag, lead_len, tag_at};

/// The events of an output, adjacent ones joined.
pub(super) fn reference(output: &str, options: OutputOptions, end: OutputEnd) -> Vec<OutputEvent> {
    let mut reader = ReferenceParser {
        text: output,
        functions: Functions::new(options.tools),
        end,
        events: Vec::new(),
        segment: String::new(),
        section: if options.thinking {
            ReferenceSection::Reasoning
        } else {
            ReferenceSection::Answer
        },
        drops_close: options.thinking,
        forced: options.forced,
        calls: 0,
        fence_open: false,
    };
    reader.output();
    reader.events
}

#[derive(Clone, Copy, PartialEq)]
enum ReferenceSection {
    Reasoning,
    /// After `</think>`.
    AnswerAfterReasoning,
    Answer,
}

#[derive(Clone, Copy, PartialEq)]
enum ReferenceBlock {
    Open,
    Missing,
    Closed,
}

struct ReferenceParser<'a> {
    text: &'a str,
    functions: Functions,
    end: OutputEnd<'a>,
    events: Vec<OutputEvent>,
    /// The text since the last call or the reasoning's end, layout and all.
    segment: String,
    section: ReferenceSection,
    drops_close: bool,
    forced: bool,
    calls: usize,
    fence_open: bool,
}

impl ReferenceParser<'_> {
    fn output(&mut self) {
        let mut at = 0;
        while at < self.text.len() {
            at = self.step(at);
        }
        self.end_segment(false);
    }

    /// Reads text, one tag, or calls from `at` on, outside of any call. Returns where it stopped.
    fn step(&mut self, at: usize) -> usize {
        if self.text[at..].starts_with('{') && self.forced && self.at_answer_start() {
            self.forced = false;
            return self.object(at, at, ReferenceBlock::Missing, false);
        }
        let Some((tag, after)) = tag_at(self.text, at) else {
            let c = self.text[at..].chars().next().unwrap();
            return self.add(at, at + c.len_utf8());
        };
        match tag {
            Tag::CloseThink if self.section == ReferenceSection::Reasoning => {
                self.end_segment(false);
                self.section = ReferenceSection::AnswerAfterReasoning;
                after
            }
            Tag::CloseThink if std::mem::take(&mut self.drops_close) => after,
            Tag::OpenCall => {
                let lead = &self.text[after..];
                let inside = after + lead_len(lead, true);
                let fence = has_fence(&self.text[after..inside]);
                if fence == Some(ReferenceFence::Partial) {
                    return self.add(at, after);
                }
                if self.text[inside..].starts_with('{') {
                    return self.object(at, inside, ReferenceBlock::Open, fence.is_some());
                }
                match tag_at(self.text, inside) {
                    Some((Tag::Function { name, .. }, body)) if self.functions.declares(&name) => {
                        self.end_segment(true);
                        self.fence_open |= fence.is_some();
                        self.call(&name, body, ReferenceBlock::Open)
                    }
                    _ => self.add(at, after),
                }
            }
            Tag::Function { name, closed: true }
                if self.section != ReferenceSection::Reasoning
                    && self.functions.declares(&name) =>
            {
                match tag_at(self.text, self.skip_space(after)) {
                    Some((Tag::Parameter { .. } | Tag::CloseFunction | Tag::CloseCall, _)) => {
                        self.end_segment(true);
                        self.call(&name, after, ReferenceBlock::Missing)
                    }
                    _ => self.add(at, after),
                }
            }
            _ => self.add(at, after),
        }
    }

    /// What is between `from` and `to` is text.
    fn add(&mut self, from: usize, to: usize) -> usize {
        self.fence_open = false;
        self.segment.push_str(&self.text[from..to]);
        to
    }

    /// An object at `at` that may be a call; `from` is where its block began.
    fn object(&mut self, from: usize, at: usize, block: ReferenceBlock, fenced: bool) -> usize {
        let text = self.text;
        let valid =
            |object: &str| json::kind(object, &mut Functions::default()) != ObjectKind::Malformed;
        let mut found = None;
        for end in (at..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let object = &text[at..end];
            if object.ends_with('}') && valid(object) {
                found = Some((object.to_owned(), end));
                break;
            }
            let repairs =
                text[end..].starts_with('<') || (end == text.len() && self.end == OutputEnd::Stop);
            let repaired = format!("{object}}}");
            if repairs && valid(&repaired) {
                let is_call = matches!(
                    json::kind(&repaired, &mut self.functions),
                    ObjectKind::Call { .. }
                );
                found = is_call.then_some((repaired, end));
                break;
            }
        }
        let Some((object, end)) = found else {
            if from == at {
                return self.add(at, at + 1);
            }
            return self.add(from, tag_at(text, from).unwrap().1);
        };
        match json::kind(&object, &mut self.functions) {
            ObjectKind::Call { name, arguments } => {
                self.end_segment(true);
                self.fence_open |= fenced;
                let index = self.calls;
                self.calls += 1;
                self.events.push(OutputEvent::CallStart { index, name });
                self.events.push(OutputEvent::CallArguments {
                    index,
                    delta: arguments,
                });
                self.events.push(OutputEvent::CallEnd { index });
                self.after_call(end, block)
            }
            _ => self.add(from, end),
        }
    }

    /// A call whose function's tag ends at `at`.
    fn call(&mut self, function: &str, at: usize, block: ReferenceBlock) -> usize {
        let index = self.calls;
        self.calls += 1;
        self.events.push(OutputEvent::CallStart {
            index,
            name: function.to_owned(),
        });
        let needs_close = block == ReferenceBlock::Open && !self.fence_open;
        let mut given = HashSet::new();
        let mut arguments = String::new();
        let mut stray = String::new();
        let mut at = at;
        let (ended, next) = loop {
            if at == self.text.len() {
                break (self.end == OutputEnd::Stop, at);
            }
            let Some((tag, after)) = tag_at(self.text, at) else {
                if self.end == OutputEnd::Length && is_partial_tag(&self.text[at..]) {
                    break (false, self.text.len());
                }
                let c = self.text[at..].chars().next().unwrap();
                stray.push(c);
                at += c.len_utf8();
                continue;
            };
            match tag {
                Tag::CloseParameter => at = after,
                Tag::CloseFunction => break (true, after),
                Tag::Function { .. } | Tag::OpenCall | Tag::CloseCall => break (true, at),
                Tag::OpenThink | Tag::CloseThink => {
                    stray.push_str(&self.text[at..after]);
                    at = after;
                }
                Tag::Parameter { name } => {
                    let types = self.functions.types(function, &name);
                    let first = given.is_empty();
                    given.insert(name.clone());
                    let value = self.value(function, after, needs_close, &given);
                    let text = self.text[after..value.end].strip_prefix('\n');
                    let text = text.unwrap_or(&self.text[after..value.end]);
                    let text = text.strip_suffix('\n').unwrap_or(text);
                    if value.complete || types.is_string() {
                        arguments.push(if first { '{' } else { ',' });
                        arguments.push_str(&quote(&name));
                        arguments.push(':');
                        arguments.push_str(&types.read(text));
                    }
                    if !value.complete {
                        if types.is_string() {
                            arguments.pop();
                        }
                        break (false, self.text.len());
                    }
                    at = value.next;
                    if value.ends_call {
                        break (true, at);
                    }
                }
            }
        };
        let mut words = stray.trim();
        if ended {
            if !given.is_empty() {
                arguments.push('}');
            } else if let Some(object) = json::bare_arguments(function, words, &mut self.functions)
            {
                arguments = object;
                words = "";
            } else {
                arguments = "{}".into();
            }
        }
        if !arguments.is_empty() {
            self.events.push(OutputEvent::CallArguments {
                index,
                delta: arguments,
            });
        }
        if ended {
            self.events.push(OutputEvent::CallEnd { index });
        }
        self.report(words, ReferenceSection::Answer);
        if ended {
            self.after_call(next, block)
        } else {
            next
        }
    }

    /// After a call: its block's end, a code fence's end, or the next call.
    fn after_call(&mut self, at: usize, block: ReferenceBlock) -> usize {
        let at = self.skip_space(at);
        if self.fence_open && self.text[at..].starts_with("```") {
            self.fence_open = false;
            return self.after_call(at + 3, block);
        }
        if block == ReferenceBlock::Open && self.text[at..].starts_with('{') {
            return self.object(at, at, block, false);
        }
        match tag_at(self.text, at) {
            Some((Tag::CloseCall, after)) if block != ReferenceBlock::Closed => {
                self.after_call(after, ReferenceBlock::Closed)
            }
            Some((Tag::CloseThink, after)) if std::mem::take(&mut self.drops_close) => {
                self.after_call(after, block)
            }
            Some((Tag::Function { name, .. }, after))
                if block == ReferenceBlock::Open && self.functions.declares(&name) =>
            {
                self.call(&name, after, block)
            }
            // Only the first `</think>` is dropped.
            Some((Tag::CloseThink, after)) => self.add(at, after),
            _ => at,
        }
    }

    fn skip_space(&self, at: usize) -> usize {
        self.text.len() - self.text[at..].trim_start().len()
    }

    /// Whether the answer has only layout so far.
    fn at_answer_start(&self) -> bool {
        let segment = match self.section {
            ReferenceSection::Reasoning => return false,
            ReferenceSection::AnswerAfterReasoning => self.segment.trim_start_matches('\n'),
            ReferenceSection::Answer => &self.segment,
        };
        self.calls == 0
            && lead_len(segment, true) == segment.len()
            && has_fence(segment) != Some(ReferenceFence::Partial)
    }

    /// Reports the text since the last call, without its layout.
    fn end_segment(&mut self, before_call: bool) {
        let segment = std::mem::take(&mut self.segment);
        let section = std::mem::replace(&mut self.section, ReferenceSection::Answer);
        let mut text = segment.as_str();
        match section {
            ReferenceSection::Reasoning => {
                text = text.trim_start();
                text = text.strip_prefix("<think>").unwrap_or(text).trim_start();
                if !before_call {
                    text = text.trim_end();
                }
            }
            ReferenceSection::AnswerAfterReasoning => text = text.trim_start_matches('\n'),
            ReferenceSection::Answer => {}
        }
        if before_call {
            let mut at = 0;
            loop {
                let line = text[..at].rsplit('\n').next().unwrap();
                let lead = lead_len(&text[at..], line.trim().is_empty());
                if at + lead == text.len() {
                    let fence = has_fence(&text[at..]);
                    self.fence_open |= fence == Some(ReferenceFence::Whole);
                    if fence != Some(ReferenceFence::Partial) {
                        text = &text[..at];
                    }
                    break;
                }
                at += match lead {
                    0 => text[at..].chars().next().unwrap().len_utf8(),
                    lead => lead,
                };
            }
        }
        self.report(text, section);
    }

    fn report(&mut self, text: &str, section: ReferenceSection) {
        if text.is_empty() {
            return;
        }
        match (section, self.events.last_mut()) {
            (ReferenceSection::Reasoning, _) => {
                self.events.push(OutputEvent::Reasoning(text.into()))
            }
            (_, Some(OutputEvent::Text(last))) => last.push_str(text),
            _ => self.events.push(OutputEvent::Text(text.into())),
        }
    }
}
