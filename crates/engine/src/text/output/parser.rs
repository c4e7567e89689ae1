//! The parser: a state machine over tags and text.

mod candidates;

use serde_json::Value;

use super::events::{Events, OutputEnd, OutputEvent};
use super::json::{ObjectKind, ObjectScanner};
use super::layout::{Fence, LayoutFilter};
use super::schema::Functions;
use super::tags::{Tag, TagLexer, TagToken};
use super::xml::{CallContext, CallProgress, OpenedBy, XmlCall};

/// The settings of the parser, from the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputOptions<'a> {
    /// The functions that the request declares, as OpenAI's `tools`. Types are read from their JSON schemas.
    pub tools: &'a [Value],
    /// The prompt ended inside `<think>`.
    pub thinking: bool,
    /// `tool_choice` forces a call: an answer that begins with a JSON object may be one, without a block around it.
    pub forced: bool,
    /// A grammar constrains the calls, so they are in the XML form and whole: what it does not constrain is no call, and a
    /// value ends only at the first `</parameter>` on a line of its own. Nothing is recovered.
    pub exact: bool,
}

/// Reads the output of one answer.
#[derive(Clone, Debug)]
pub struct OutputParser {
    functions: Functions,
    lexer: TagLexer,
    layout: LayoutFilter,
    state: State,
    events: Events,
    /// Calls that have started.
    calls: usize,
    /// An object without a block may be a call.
    bare_objects: bool,
    /// Nothing is recovered.
    exact: bool,
    /// A call's code fence is open.
    fence_open: bool,
    finished: bool,
}

#[derive(Clone, Debug, Default)]
enum State {
    /// In the reasoning or the answer.
    #[default]
    Text,
    /// After `<tool_call>`; `raw` is the text since.
    Block { raw: String, fence: Fence },
    /// After `<function=NAME>` without a block; `raw` is the text since.
    BareFunction { raw: String, name: String },
    /// In an object that may be a call; `raw` is the text before it.
    Object {
        raw: String,
        scanner: ObjectScanner,
        block: Block,
        fenced: bool,
    },
    /// In a call in the XML form.
    Call(XmlCall),
    /// After a call; so many backticks of a closing code fence have come.
    AfterCall { block: Block, ticks: usize },
}

/// What `</tool_call>` and another call mean at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// In a block: it closes it.
    Open,
    /// After a call without a block: it is dropped.
    Missing,
    /// After a block: it is text.
    Closed,
}

impl OutputParser {
    /// A parser at the start of the output.
    pub fn new(options: OutputOptions) -> Self {
        let functions = Functions::new(options.tools);
        Self {
            bare_objects: options.forced && !options.exact && !functions.is_empty(),
            exact: options.exact,
            functions,
            lexer: TagLexer::default(),
            layout: LayoutFilter::new(options.thinking),
            state: State::Text,
            events: Events::default(),
            calls: 0,
            fence_open: false,
            finished: false,
        }
    }

    /// Adds a piece of the output. Returns the events that it decides.
    pub fn push(&mut self, text: &str) -> Vec<OutputEvent> {
        if !self.finished {
            self.input(text);
        }
        self.events.take()
    }

    /// Ends the output. Returns the remaining events.
    pub fn finish(&mut self, end: OutputEnd) -> Vec<OutputEvent> {
        if !std::mem::replace(&mut self.finished, true) {
            self.settle(end);
            self.layout.finish(&mut self.events);
        }
        self.events.take()
    }

    /// Whether the output is still in the reasoning.
    pub fn is_reasoning(&self) -> bool {
        matches!(self.state, State::Text) && self.layout.in_reasoning()
    }

    /// How many calls have started.
    pub fn calls(&self) -> usize {
        self.calls
    }

    fn input(&mut self, text: &str) {
        let mut rest = text;
        while let Some(token) = self.lexer.next(&mut rest) {
            match token {
                TagToken::Text(text) => self.text(&text),
                TagToken::Tag(tag, raw) => self.tag(&tag, &raw),
            }
        }
    }

    fn text(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let used = match &mut self.state {
                State::Text => self.answer_text(rest),
                State::Block { .. } => self.block_text(rest),
                State::BareFunction { raw, .. } => {
                    let words = rest.trim_start();
                    let space = rest.len() - words.len();
                    raw.push_str(&rest[..space]);
                    if !words.is_empty() {
                        self.reject();
                    }
                    space
                }
                State::Object { .. } => self.object_text(rest),
                State::Call(call) => {
                    let mut context = CallContext {
                        functions: &mut self.functions,
                        events: &mut self.events,
                    };
                    match call.text(rest, &mut context) {
                        CallProgress::EndedAt(at) => {
                            self.after_call();
                            at
                        }
                        _ => rest.len(),
                    }
                }
                State::AfterCall { .. } => self.text_after_call(rest),
            };
            rest = &rest[used..];
        }
    }

    fn tag(&mut self, tag: &Tag, raw: &str) {
        match (&mut self.state, tag) {
            (State::Text, _) => self.answer_tag(tag, raw),
            (State::Block { fence, .. }, Tag::Function { name, .. })
                if fence.may_precede_call() && self.functions.declares(name) =>
            {
                self.fence_open |= *fence != Fence::None;
                self.start_call(name, true);
            }
            (
                State::BareFunction { name, .. },
                Tag::Parameter { .. } | Tag::CloseFunction | Tag::CloseCall,
            ) => {
                let name = std::mem::take(name);
                self.start_call(&name, false);
                self.tag(tag, raw);
            }
            (State::Block { .. } | State::BareFunction { .. }, _) => {
                self.reject();
                self.tag(tag, raw);
            }
            (State::Object { scanner, .. }, _) if scanner.in_string() => self.text(raw),
            (State::Object { scanner, .. }, _) => {
                let kind = scanner.repaired(&mut self.functions);
                if self.decide_object(kind, raw, 0) == 0 {
                    self.tag(tag, raw);
                }
            }
            (State::Call(call), _) => {
                let mut context = CallContext {
                    functions: &mut self.functions,
                    events: &mut self.events,
                };
                match call.tag(tag, raw, &mut context) {
                    CallProgress::Open => {}
                    CallProgress::EndedBefore => {
                        self.after_call();
                        self.tag(tag, raw);
                    }
                    CallProgress::Ended | CallProgress::EndedAt(_) => self.after_call(),
                }
            }
            (State::AfterCall { .. }, _) => self.tag_after_call(tag, raw),
        }
    }

    /// Text of the reasoning or the answer. Returns how much of it was read.
    fn answer_text(&mut self, text: &str) -> usize {
        let mut chars = text.chars();
        if self.bare_objects
            && self.layout.before_answer()
            && let Some(c) = chars.next()
        {
            if c == '{' && self.layout.may_precede_call() {
                self.bare_objects = false;
                self.open_object(String::new(), Block::Missing, false);
                return 0;
            }
            let used = c.len_utf8();
            self.layout.text(&text[..used], &mut self.events);
            return used;
        }
        self.layout.text(text, &mut self.events);
        text.len()
    }

    fn answer_tag(&mut self, tag: &Tag, raw: &str) {
        match tag {
            Tag::OpenThink => self.layout.open_think(raw, &mut self.events),
            Tag::CloseThink => self.layout.close_think(raw, &mut self.events),
            Tag::OpenCall if !self.functions.is_empty() => {
                self.state = State::Block {
                    raw: raw.to_owned(),
                    fence: Fence::None,
                };
            }
            Tag::Function { name, closed: true }
                if !self.exact && !self.layout.in_reasoning() && self.functions.declares(name) =>
            {
                self.state = State::BareFunction {
                    raw: raw.to_owned(),
                    name: name.clone(),
                };
            }
            _ => self.layout.text(raw, &mut self.events),
        }
    }

    fn start_call(&mut self, function: &str, in_block: bool) {
        let index = self.count_call();
        let open = OpenedBy {
            block: in_block,
            fence: self.fence_open,
            exact: self.exact,
        };
        let call = XmlCall::start(index, function.to_owned(), open, &mut self.events);
        self.state = State::Call(call);
    }

    fn count_call(&mut self) -> usize {
        self.fence_open |= self.layout.call(&mut self.events);
        self.calls += 1;
        self.calls - 1
    }

    fn after_call(&mut self) {
        let block = match &self.state {
            State::Call(call) if call.in_block() => Block::Open,
            _ => Block::Missing,
        };
        self.state = State::AfterCall { block, ticks: 0 };
    }

    /// Decides all that is held.
    fn settle(&mut self, end: OutputEnd) {
        loop {
            let is_cut_tag = self.is_cut_tag(end);
            if let Some(text) = self.lexer.finish() {
                if !is_cut_tag {
                    self.text(&text);
                }
                continue;
            }
            match (&mut self.state, end) {
                (State::Text, _) => return,
                (State::Object { scanner, .. }, OutputEnd::Stop) => {
                    let kind = scanner.repaired(&mut self.functions);
                    self.decide_object(kind, "", 0);
                }
                (State::Call(call), OutputEnd::Stop) => {
                    let mut context = CallContext {
                        functions: &mut self.functions,
                        events: &mut self.events,
                    };
                    call.finish(&mut context);
                    self.state = State::Text;
                }
                (State::Call(call), OutputEnd::Length) => {
                    call.cut(&mut self.events);
                    self.state = State::Text;
                }
                (State::Call(_), OutputEnd::StopString(_)) => self.state = State::Text,
                (
                    State::Block { .. }
                    | State::BareFunction { .. }
                    | State::Object {
                        block: Block::Open, ..
                    },
                    OutputEnd::StopString(_),
                ) => self.drop_opened(),
                (State::Object { .. }, _) => {
                    self.decide_object(ObjectKind::Malformed, "", 0);
                }
                _ => self.reject(),
            }
        }
    }

    /// Whether what the lexer holds is not text at this end of the output: it belongs to a call that is cut, whose arguments
    /// end with what is certain, or the stop string cuts a tag.
    fn is_cut_tag(&self, end: OutputEnd) -> bool {
        match (&self.state, end) {
            (_, OutputEnd::Stop) => false,
            (State::Call(_), _) => true,
            (_, OutputEnd::Length) => false,
            (
                State::Text
                | State::AfterCall { .. }
                | State::Object {
                    block: Block::Missing,
                    ..
                },
                OutputEnd::StopString(stop),
            ) => self.lexer.is_tag_with(stop, !self.functions.is_empty()),
            (_, OutputEnd::StopString(_)) => true,
        }
    }
}
