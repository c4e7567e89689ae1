//! Splits the output into tags and the text between them.
//!
//! The lexer decides each character once. It holds back only what could be a tag: at most [`MAX_TAG_BYTES`], and
//! never a second `<`. A tag that fails is therefore text as a whole, and is not scanned again.

use std::borrow::Cow;

/// The longest tag, in bytes. A longer one is text.
pub(super) const MAX_TAG_BYTES: usize = 512;

/// A tag that the two call formats or the reasoning block use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// `<think>`
    OpenThink,
    /// `</think>`
    CloseThink,
    /// `<tool_call>`
    OpenCall,
    /// `</tool_call>`
    CloseCall,
    /// `<function=NAME>`
    Function {
        /// The name, without surrounding white space.
        name: String,
        /// `false` if the line ends before `>`.
        closed: bool,
    },
    /// `</function>`
    CloseFunction,
    /// `<parameter=NAME>`, or `<parameter=NAME` before the end of a line.
    Parameter {
        /// The name, without surrounding white space.
        name: String,
    },
    /// `</parameter>`
    CloseParameter,
}

/// A piece of the output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TagToken<'a> {
    /// Text without a tag in it.
    Text(Cow<'a, str>),
    /// A tag, and how it was written.
    Tag(Tag, Cow<'a, str>),
}

/// The incremental lexer.
#[derive(Clone, Debug, Default)]
pub(super) struct TagLexer {
    /// What earlier pieces had of a possible tag.
    held: String,
    /// The possible tag that is being read.
    candidate: Option<Candidate>,
}

/// A possible tag, without its text.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    phase: TagPhase,
    closing: bool,
    /// How many bytes it has.
    len: usize,
    keyword: Keyword,
    /// How many letters of the keyword it has.
    letters: usize,
    /// Where the name begins.
    name: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagPhase {
    /// After `<` or `</`.
    Open,
    /// In the keyword.
    Keyword,
    /// After the keyword.
    AfterKeyword,
    /// After `=`.
    Name,
}

/// What one more character makes of a possible tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagStep {
    Hold,
    /// It is a tag with this character.
    Complete,
    /// It is a tag without this character.
    CompleteBefore,
    /// It is not a tag. This character is not decided yet.
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keyword {
    Think,
    ToolCall,
    Function,
    Parameter,
}

impl Keyword {
    fn letters(self) -> &'static [u8] {
        match self {
            Self::Think => b"think",
            Self::ToolCall => b"tool_call",
            Self::Function => b"function",
            Self::Parameter => b"parameter",
        }
    }
}

impl TagLexer {
    /// The next token of `rest`, which is shortened by what was read. `None` once all was read.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a str) -> Option<TagToken<'a>> {
        let text = *rest;
        let mut at = 0;
        loop {
            let start = at;
            let mut candidate = match self.candidate.take() {
                Some(candidate) => candidate,
                None => {
                    let Some(start) = text[at..].find('<').map(|open| at + open) else {
                        *rest = "";
                        return (!text.is_empty()).then(|| TagToken::Text(text.into()));
                    };
                    at = start + 1;
                    Candidate::default()
                }
            };
            let start = if self.held.is_empty() { at - 1 } else { start };
            let (step, end) = candidate.read(text, at);
            if start > 0 && step != TagStep::Fail {
                // The text before the tag comes first. The tag is read again, once.
                *rest = &text[start..];
                return Some(TagToken::Text(text[..start].into()));
            }
            match step {
                TagStep::Hold => {
                    self.held.push_str(&text[start..]);
                    self.candidate = Some(candidate);
                    *rest = "";
                    return None;
                }
                TagStep::Complete | TagStep::CompleteBefore => {
                    let raw = self.written(&text[start..end]);
                    *rest = &text[end..];
                    let tag = candidate.tag(&raw, step == TagStep::Complete);
                    return Some(match tag {
                        Some(tag) => TagToken::Tag(tag, raw),
                        None => TagToken::Text(raw),
                    });
                }
                TagStep::Fail if !self.held.is_empty() => {
                    *rest = &text[end..];
                    return Some(TagToken::Text(self.written(&text[start..end])));
                }
                TagStep::Fail => at = end,
            }
        }
    }

    /// Ends the output: an unfinished tag is text.
    pub(super) fn finish(&mut self) -> Option<String> {
        self.candidate.take()?;
        Some(std::mem::take(&mut self.held))
    }

    /// Whether the possible tag that is held is one with `next` behind it, or has its whole keyword then. Of the tags of calls
    /// only if there are `calls`.
    pub(super) fn is_tag_with(&self, next: &str, calls: bool) -> bool {
        let Some(held) = self.candidate else {
            return false;
        };
        let mut candidate = held;
        let (step, _) = candidate.read(next, 0);
        let keyword = candidate.keyword;
        let is_tag = match step {
            TagStep::Complete => true,
            TagStep::Hold => {
                candidate.letters == keyword.letters().len() && held.phase != TagPhase::Name
            }
            TagStep::CompleteBefore | TagStep::Fail => false,
        };
        is_tag && (calls || keyword == Keyword::Think)
    }

    fn written<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        if self.held.is_empty() {
            return text.into();
        }
        self.held.push_str(text);
        std::mem::take(&mut self.held).into()
    }
}

impl Default for Candidate {
    /// After `<`.
    fn default() -> Self {
        Self {
            phase: TagPhase::Open,
            closing: false,
            len: 1,
            keyword: Keyword::Think,
            letters: 0,
            name: 0,
        }
    }
}

impl Candidate {
    /// Reads `text` from `at` on, until the tag is decided. Returns where it stopped.
    ///
    /// Only ASCII decides anything, so it reads bytes.
    fn read(&mut self, text: &str, at: usize) -> (TagStep, usize) {
        let bytes = text.as_bytes();
        for (end, byte) in bytes.iter().enumerate().skip(at) {
            let step = if self.len >= MAX_TAG_BYTES && text.is_char_boundary(end) {
                TagStep::Fail
            } else {
                self.step(*byte)
            };
            match step {
                TagStep::Hold => self.len += 1,
                TagStep::Complete => return (step, end + 1),
                TagStep::CompleteBefore | TagStep::Fail => return (step, end),
            }
        }
        (TagStep::Hold, bytes.len())
    }

    fn step(&mut self, byte: u8) -> TagStep {
        match self.phase {
            TagPhase::Open => match byte {
                b' ' | b'\t' => return TagStep::Hold,
                b'/' if !self.closing => {
                    self.closing = true;
                    return TagStep::Hold;
                }
                b't' => self.keyword = Keyword::Think,
                b'f' => self.keyword = Keyword::Function,
                b'p' => self.keyword = Keyword::Parameter,
                _ => return TagStep::Fail,
            },
            TagPhase::Keyword => {
                if byte == b'o' && self.letters == 1 && self.keyword == Keyword::Think {
                    self.keyword = Keyword::ToolCall;
                }
                match self.keyword.letters().get(self.letters) {
                    Some(letter) if *letter != byte => return TagStep::Fail,
                    Some(_) => {}
                    None => return self.after_keyword(byte),
                }
            }
            TagPhase::AfterKeyword => return self.after_keyword(byte),
            TagPhase::Name => {
                return match byte {
                    b'>' => TagStep::Complete,
                    b'\n' => TagStep::CompleteBefore,
                    b'<' => TagStep::Fail,
                    _ => TagStep::Hold,
                };
            }
        }
        self.phase = TagPhase::Keyword;
        self.letters += 1;
        TagStep::Hold
    }

    fn after_keyword(&mut self, byte: u8) -> TagStep {
        match byte {
            b'>' => TagStep::Complete,
            b' ' | b'\t' => {
                self.phase = TagPhase::AfterKeyword;
                TagStep::Hold
            }
            b'=' if self.takes_name() => {
                self.phase = TagPhase::Name;
                self.name = self.len + 1;
                TagStep::Hold
            }
            _ => TagStep::Fail,
        }
    }

    fn takes_name(&self) -> bool {
        !self.closing && matches!(self.keyword, Keyword::Function | Keyword::Parameter)
    }

    /// The tag that was written as `raw`; `closed` if it ends with `>`.
    fn tag(&self, raw: &str, closed: bool) -> Option<Tag> {
        if self.phase == TagPhase::Name {
            let name = raw[self.name..]
                .strip_suffix('>')
                .unwrap_or(&raw[self.name..]);
            let name = name.trim().to_owned();
            return match self.keyword {
                _ if name.is_empty() => None,
                Keyword::Function => Some(Tag::Function { name, closed }),
                _ => Some(Tag::Parameter { name }),
            };
        }
        match (self.keyword, self.closing) {
            (Keyword::ToolCall, false) => Some(Tag::OpenCall),
            (Keyword::ToolCall, true) => Some(Tag::CloseCall),
            (Keyword::Function, true) => Some(Tag::CloseFunction),
            (Keyword::Parameter, true) => Some(Tag::CloseParameter),
            // The reasoning tags are single tokens of the vocabulary: they have no variants.
            (Keyword::Think, false) if raw == "<think>" => Some(Tag::OpenThink),
            (Keyword::Think, true) if raw == "</think>" => Some(Tag::CloseThink),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> Vec<TagToken<'_>> {
        let mut lexer = TagLexer::default();
        let mut rest = text;
        let mut tokens: Vec<TagToken> = std::iter::from_fn(|| lexer.next(&mut rest)).collect();
        tokens.extend(lexer.finish().map(|text| TagToken::Text(text.into())));
        tokens
    }

    fn parameter(name: &str, raw: &'static str) -> TagToken<'static> {
        TagToken::Tag(Tag::Parameter { name: name.into() }, raw.into())
    }

    #[test]
    fn tag_with_spaces_is_read() {
        assert_eq!(
            lex("< parameter = x >"),
            [parameter("x", "< parameter = x >")]
        );
        assert_eq!(
            lex("</ tool_call >"),
            [TagToken::Tag(Tag::CloseCall, "</ tool_call >".into())]
        );
    }

    #[test]
    fn parameter_without_bracket_ends_at_newline() {
        assert_eq!(
            lex("<parameter=a\n1"),
            [parameter("a", "<parameter=a"), TagToken::Text("\n1".into())]
        );
    }

    #[test]
    fn unknown_tag_is_text() {
        for text in [
            "<b>",
            "<toolcall>",
            "< think>",
            "<parameter=>",
            "</function=f>",
            "<tool_call",
        ] {
            let joined: String = lex(text)
                .into_iter()
                .map(|token| match token {
                    TagToken::Text(text) => text.into_owned(),
                    TagToken::Tag(..) => panic!("{text}"),
                })
                .collect();
            assert_eq!(joined, text);
        }
    }

    #[test]
    fn failed_tag_does_not_hide_the_next() {
        assert_eq!(
            lex("<<function=<tool_call>"),
            [
                TagToken::Text("<<function=".into()),
                TagToken::Tag(Tag::OpenCall, "<tool_call>".into())
            ]
        );
    }

    #[test]
    fn tag_of_more_than_the_limit_is_text() {
        let text = format!("<parameter={}>", "x".repeat(MAX_TAG_BYTES));
        assert!(
            lex(&text)
                .iter()
                .all(|token| matches!(token, TagToken::Text(_)))
        );
    }
}
