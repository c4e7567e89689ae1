//! Text that may still become a call: a block that opened, an object, and what follows a call.

use super::super::json::{ObjectKind, ObjectScanner, Scan};
use super::super::layout::Fence;
use super::super::tags::Tag;
use super::{Block, OutputParser, State};

impl OutputParser {
    /// Text after `<tool_call>`.
    pub(super) fn block_text(&mut self, text: &str) -> usize {
        let State::Block { raw, fence } = &mut self.state else {
            return 0;
        };
        for (at, c) in text.char_indices() {
            if c == '{' && fence.may_precede_call() && !self.exact {
                let fenced = *fence != Fence::None;
                let raw = std::mem::take(raw);
                self.open_object(raw, Block::Open, fenced);
                return at;
            }
            if !fence.step(c, true) {
                self.reject();
                return at;
            }
            raw.push(c);
        }
        text.len()
    }

    pub(super) fn open_object(&mut self, raw: String, block: Block, fenced: bool) {
        self.state = State::Object {
            raw,
            scanner: ObjectScanner::default(),
            block,
            fenced,
        };
    }

    /// Text of an object that may be a call.
    pub(super) fn object_text(&mut self, text: &str) -> usize {
        let State::Object { scanner, .. } = &mut self.state else {
            return 0;
        };
        let (used, kind) = match scanner.push(text) {
            Scan::Open => return text.len(),
            Scan::Closed(end) => (end, scanner.kind(&mut self.functions)),
            Scan::Malformed(at) if text[at..].starts_with('<') => {
                (at, scanner.repaired(&mut self.functions))
            }
            Scan::Malformed(at) => (at, ObjectKind::Malformed),
        };
        self.decide_object(kind, &text[used..], used)
    }

    /// Ends the object. `rest` is what follows it in the current piece, after `used` bytes. Returns how many bytes of
    /// the piece were read.
    pub(super) fn decide_object(&mut self, kind: ObjectKind, rest: &str, used: usize) -> usize {
        let State::Object {
            raw,
            scanner,
            block,
            fenced,
        } = std::mem::take(&mut self.state)
        else {
            return used;
        };
        match kind {
            ObjectKind::Call { name, arguments } => {
                self.fence_open |= fenced;
                let index = self.count_call();
                self.events.start(index, name);
                self.events.arguments(index, &arguments);
                self.events.end(index);
                self.state = State::AfterCall { block, ticks: 0 };
                used
            }
            ObjectKind::Other => {
                self.fall_back(&raw);
                self.layout.text(&scanner.into_text(), &mut self.events);
                used
            }
            ObjectKind::Malformed => {
                // A call may begin inside of it, so it is read again, and what follows it too: the lexer's place must
                // stay the parser's.
                self.fall_back(&raw);
                let mut again = scanner.into_text();
                again.push_str(rest);
                self.input(&again);
                used + rest.len()
            }
        }
    }

    pub(super) fn text_after_call(&mut self, text: &str) -> usize {
        let State::AfterCall { block, ticks } = &mut self.state else {
            return 0;
        };
        for (at, c) in text.char_indices() {
            match c {
                c if c.is_whitespace() && *ticks == 0 => {}
                '`' if self.fence_open => {
                    *ticks += 1;
                    if *ticks == 3 {
                        *ticks = 0;
                        self.fence_open = false;
                    }
                }
                '{' if *ticks == 0 && *block == Block::Open && !self.exact => {
                    self.open_object(String::new(), Block::Open, false);
                    return at;
                }
                _ => {
                    self.reject();
                    return at;
                }
            }
        }
        text.len()
    }

    pub(super) fn tag_after_call(&mut self, tag: &Tag, raw: &str) {
        let State::AfterCall { block, ticks } = &mut self.state else {
            return;
        };
        match tag {
            Tag::CloseCall if *ticks == 0 && *block != Block::Closed => *block = Block::Closed,
            Tag::CloseThink if *ticks == 0 && self.layout.drop_close() => {}
            Tag::Function { name, .. }
                if *ticks == 0 && *block == Block::Open && self.functions.declares(name) =>
            {
                self.start_call(name, true);
            }
            Tag::OpenCall if *ticks == 0 => self.answer_tag(tag, raw),
            Tag::Function { name, closed: true }
                if *ticks == 0 && self.functions.declares(name) =>
            {
                self.answer_tag(tag, raw);
            }
            _ => {
                self.reject();
                self.tag(tag, raw);
            }
        }
    }

    /// What could have become a call is text.
    pub(super) fn reject(&mut self) {
        match std::mem::take(&mut self.state) {
            State::Block { raw, .. } | State::BareFunction { raw, .. } => self.fall_back(&raw),
            State::AfterCall { ticks, .. } => self.fall_back(&"``"[..ticks]),
            state => self.state = state,
        }
    }

    /// What has opened a call that does not start is dropped, and the layout before it.
    pub(super) fn drop_opened(&mut self) {
        self.layout.call(&mut self.events);
        self.state = State::Text;
        self.fence_open = false;
    }

    fn fall_back(&mut self, raw: &str) {
        self.state = State::Text;
        self.fence_open = false;
        self.layout.text(raw, &mut self.events);
    }
}
