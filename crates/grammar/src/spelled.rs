//! Tags that a model spells.

use crate::Vocabulary;

/// A tag that is spelled in pieces instead of written as one token: what follows it must begin with a token of its own.
pub(crate) struct SpelledTag {
    tag: &'static [u8],
    /// Tokens that have the tag inside, and something behind it.
    pub(crate) within: Vec<u32>,
    /// For each proper prefix of the tag, by length: tokens that complete the tag and go on with something else.
    overshoot: Vec<Vec<u32>>,
}

impl SpelledTag {
    /// `is_rest`: whether bytes behind the tag belong to what follows it.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        tag: &'static [u8],
        is_rest: fn(&[u8]) -> bool,
    ) -> Self {
        let within = vocabulary.texts(|bytes| {
            let at = bytes.windows(tag.len()).position(|window| window == tag);
            at.is_some_and(|at| is_rest(&bytes[at + tag.len()..]))
        });
        let overshoots = |rest: &'static [u8]| {
            vocabulary.texts(|bytes| bytes.strip_prefix(rest).is_some_and(is_rest))
        };
        let overshoot = (0..tag.len()).map(|len| match len {
            0 => Vec::new(),
            len => overshoots(&tag[len..]),
        });
        Self {
            tag,
            within,
            overshoot: overshoot.collect(),
        }
    }

    /// The tokens that must not follow `tail`, besides those that have the tag inside.
    pub(crate) fn overshoot(&self, tail: &[u8]) -> Vec<u32> {
        let lengths = 1..self.tag.len().min(tail.len() + 1);
        let open = lengths.filter(|len| tail.ends_with(&self.tag[..*len]));
        open.flat_map(|len| &self.overshoot[len]).copied().collect()
    }
}
