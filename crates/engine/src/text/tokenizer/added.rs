//! Where added tokens allow a text to be cut.
//!
//! The `tokenizers` library finds added tokens before it does anything else with a text: the plain ones in the text
//! itself, those with `normalized` in the normalized parts between them. A cut must not divide an occurrence, and must
//! not change what the library sees beside one:
//!
//! - `lstrip` and `rstrip` take the white space beside the token along, so that no cut may divide that white space.
//! - `single_word` depends on the two characters beside the token, so that no cut may touch it.
//! - `normalized` looks for the token in the normalized text. NFC makes ASCII of three characters only, and composes
//!   ASCII characters away; to take every place for an occurrence that could become one is enough for not dividing it.

use serde_json::Value;

/// An added token of `tokenizer.json`.
#[derive(Debug)]
pub(super) struct AddedToken {
    /// How it is spelled; not empty.
    pub(super) content: String,
    lstrip: bool,
    rstrip: bool,
    single_word: bool,
    /// It is searched for in the text as NFC leaves it.
    in_nfc: bool,
}

impl AddedToken {
    /// Reads an element of `added_tokens`; none if it is empty, and never found.
    pub(super) fn read(token: &Value, text_is_not_normalized: bool) -> Option<Self> {
        let content = token["content"].as_str().filter(|text| !text.is_empty())?;
        let flag = |name: &str| token[name] == true;
        Some(Self {
            content: content.to_owned(),
            lstrip: flag("lstrip"),
            rstrip: flag("rstrip"),
            single_word: flag("single_word"),
            in_nfc: flag("normalized") && !text_is_not_normalized,
        })
    }

    /// Whether the rules above hold for it: what NFC makes of other characters is not known here.
    pub(super) fn is_known(&self) -> bool {
        !self.in_nfc || self.content.is_ascii()
    }

    /// Whether it takes white space along.
    pub(super) fn strips(&self) -> bool {
        self.lstrip || self.rstrip
    }

    /// Whether it is certain to be found at the end of `left`, if no other token overlaps it.
    pub(super) fn ends(&self, left: &str, after: char) -> bool {
        // A mark after it would compose with its last character.
        let composes = self.in_nfc && !after.is_ascii();
        left.ends_with(&self.content) && !composes && !self.single_word
    }

    /// Whether a text must not be cut into these because of this token.
    pub(super) fn forbids(&self, left: &str, right: &str, before: char, after: char) -> bool {
        let len = self.content.chars().count();
        if self.could_occur(left, right, 1..len) {
            return true;
        }
        let ends_left = || self.could_occur(left, right, len..=len);
        let begins_right = || self.could_occur(left, right, 0..=0);
        (self.single_word && (ends_left() || begins_right()))
            || (self.lstrip && before.is_whitespace() && (after.is_whitespace() || begins_right()))
            || (self.rstrip && after.is_whitespace() && (before.is_whitespace() || ends_left()))
    }

    /// Whether an occurrence could have so many of its characters in `left`, and the others in `right`.
    fn could_occur(
        &self,
        left: &str,
        right: &str,
        mut in_left: impl Iterator<Item = usize>,
    ) -> bool {
        in_left.any(|count| {
            let (first, second) = self
                .content
                .char_indices()
                .nth(count)
                .map_or((self.content.as_str(), ""), |(at, _)| {
                    self.content.split_at(at)
                });
            self.matches(first.chars().rev(), left.chars().rev())
                && self.matches(second.chars(), right.chars())
        })
    }

    /// Whether a text begins with these characters, or could once it is normalized.
    fn matches(
        &self,
        mut wanted: impl Iterator<Item = char>,
        mut text: impl Iterator<Item = char>,
    ) -> bool {
        let normalized = |c| match c {
            '\u{212a}' if self.in_nfc => 'K',
            '\u{37e}' if self.in_nfc => ';',
            '\u{1fef}' if self.in_nfc => '`',
            c => c,
        };
        wanted.all(|c| text.next().map(normalized) == Some(c))
    }
}
