//! Where a text can be cut so that its parts, tokenized one by one, have the tokens of the whole.
//!
//! A cut is allowed only where no added token, no match of the pre-tokenizer and no composition of the normalizer (NFC)
//! can reach across it. That is known for the pre-tokenizers below, by these arguments about their patterns:
//!
//! - A space begins a match, or stands in a run of white space. After anything but white space it begins a match.
//! - Letters extend over letters and marks only, so that a match ends before any other character. (The apostrophe is
//!   left out: some patterns take `'s` with the word.)
//! - Where a digit is always a match of its own, there is a boundary behind it.
//! - Where `\s*[\r\n]+` is tried before other white space, a match ends at the last line feed of a run.
//!
//! No pattern looks behind, so that what follows a boundary is matched as if the text began there. They look ahead only
//! to see whether a run of white space ends (`\s+(?!\S)`), and no part but those that end in a line feed ends in white
//! space. ASCII never composes with the character before it.
//!
//! [`added`](super::added) has the rules for added tokens. A text for another pre-tokenizer is not cut at all.

use serde_json::Value;

use super::added::AddedToken;

/// The most bytes that are tokenized in one go where no cut is allowed: the library needs some 300 bytes for each.
pub(super) const LONGEST_PIECE: usize = 1 << 20;

/// Qwen3.5's pattern.
const QWEN3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen2's and Qwen3's.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3's, which is cl100k's.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Punctuation of Chinese and Japanese, which ends a run of letters.
const WIDE_PUNCTUATION: &str = "、。，．！？：；（）「」『』《》";

/// The rules of one tokenizer.
#[derive(Debug)]
pub(super) struct Cuts {
    /// None: nothing is known of the pre-tokenizer.
    pattern: Option<Pattern>,
    added: Vec<AddedToken>,
    /// No added token overlaps another, so that each occurrence is one.
    apart: bool,
    /// Encoding drops no byte of a text, but for what NFC composes.
    keeps_bytes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pattern {
    /// Each digit is a match of its own.
    lone_digits: bool,
    /// A run of white space is cut after its last line feed.
    lines: bool,
}

/// There is no place to cut for so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoCut;

impl Cuts {
    /// Those that a `tokenizer.json` allows.
    pub(super) fn of(tokenizer: &Value) -> Self {
        let tokens = tokenizer["added_tokens"].as_array();
        let tokens = tokens.map(Vec::as_slice).unwrap_or_default();
        let normalizer = &tokenizer["normalizer"];
        let added: Vec<AddedToken> = tokens
            .iter()
            .filter_map(|token| AddedToken::read(token, normalizer.is_null()))
            .collect();
        let is_local = normalizer.is_null() || normalizer["type"] == "NFC";
        let known = is_local && added.iter().all(AddedToken::is_known);
        Self {
            keeps_bytes: is_local
                && keeps_bytes(&tokenizer["pre_tokenizer"])
                && !added.iter().any(AddedToken::strips),
            pattern: pattern(&tokenizer["pre_tokenizer"]).filter(|_| known),
            apart: known && are_apart(&added),
            added,
        }
    }

    /// Whether a text can be cut between ordinary characters.
    pub(super) fn are_known(&self) -> bool {
        self.pattern.is_some()
    }

    /// Whether every byte of a text is part of one of its tokens, but for what NFC composes.
    pub(super) fn keeps_bytes(&self) -> bool {
        self.keeps_bytes
    }

    /// The length of the first part of a text: about `size` bytes, or as many more as it takes to find a cut.
    ///
    /// # Errors
    /// When that would be more than [`LONGEST_PIECE`].
    pub(super) fn first(&self, text: &str, size: usize) -> Result<usize, NoCut> {
        if text.len() <= size {
            return Ok(text.len());
        }
        let from = text.ceil_char_boundary(size.max(1));
        let window = text.floor_char_boundary(LONGEST_PIECE.min(text.len()));
        let before = text[..from].chars().next_back();
        let mut before = before.unwrap_or(' ');
        for (at, after) in text[from..window.max(from)].char_indices() {
            if self.allows(text, from + at, before, after) {
                return Ok(from + at);
            }
            before = after;
        }
        match text.len() <= LONGEST_PIECE {
            true => Ok(text.len()),
            false => Err(NoCut),
        }
    }

    /// Whether the text may be cut at a byte, which lies between these characters.
    fn allows(&self, text: &str, at: usize, before: char, after: char) -> bool {
        let (left, right) = text.split_at(at);
        let is_boundary = self
            .pattern
            .is_some_and(|pattern| pattern.ends_between(before, after))
            || self.apart && self.added.iter().any(|token| token.ends(left, after));
        is_boundary
            && !self
                .added
                .iter()
                .any(|token| token.forbids(left, right, before, after))
    }
}

impl Pattern {
    /// Whether a match always ends between these, and no composition joins them.
    fn ends_between(self, before: char, after: char) -> bool {
        if after == ' ' {
            return !before.is_whitespace();
        }
        if is_letter(before) {
            let ends = after.is_ascii() && !after.is_ascii_alphabetic() && after != '\'';
            return ends || WIDE_PUNCTUATION.contains(after);
        }
        (self.lone_digits && before.is_ascii_digit() && after.is_ascii())
            || (self.lines && before == '\n' && after.is_ascii_graphic())
    }
}

/// Letters for certain (general category L) that no normalization changes; by far not all of them.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic()
        || matches!(c, '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

/// Whether a pre-tokenizer is known to divide a text only.
fn keeps_bytes(pre_tokenizer: &Value) -> bool {
    match pre_tokenizer["type"].as_str() {
        Some("ByteLevel" | "Digits") => true,
        Some("Split") => pre_tokenizer["behavior"] != "Removed",
        Some("Sequence") => pre_tokenizer["pretokenizers"]
            .as_array()
            .is_some_and(|steps| steps.iter().all(keeps_bytes)),
        _ => false,
    }
}

fn pattern(pre_tokenizer: &Value) -> Option<Pattern> {
    let plain = |step: &Value| step["type"] == "ByteLevel" && step["add_prefix_space"] == false;
    if plain(pre_tokenizer) && pre_tokenizer["use_regex"] != false {
        // GPT-2's.
        return Some(Pattern {
            lone_digits: false,
            lines: false,
        });
    }
    let steps = pre_tokenizer["pretokenizers"].as_array()?;
    let [split, bytes] = steps.as_slice() else {
        return None;
    };
    let isolated = split["type"] == "Split"
        && split["behavior"] == "Isolated"
        && split["invert"] != true
        && plain(bytes)
        && bytes["use_regex"] == false;
    match split["pattern"]["Regex"].as_str().filter(|_| isolated)? {
        QWEN3_5 | QWEN2 => Some(Pattern {
            lone_digits: true,
            lines: true,
        }),
        LLAMA3 => Some(Pattern {
            lone_digits: false,
            lines: true,
        }),
        _ => None,
    }
}

/// Whether no token contains another, or begins with what another ends with.
fn are_apart(tokens: &[AddedToken]) -> bool {
    let overlap = |a: &AddedToken, b: &AddedToken| {
        let (a, b) = (a.content.as_bytes(), b.content.as_bytes());
        (1..a.len()).any(|start| {
            let rest = &a[start..];
            b.starts_with(rest) || rest.starts_with(b)
        })
    };
    let all = || tokens.iter().enumerate();
    let contains = |a: &AddedToken, b: &AddedToken| a.content.starts_with(&b.content);
    all().all(|(i, a)| all().all(|(k, b)| !overlap(a, b) && (i == k || !contains(a, b))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::load::embedded;
    use crate::text::tokenizer::Tokenizer;
    use crate::text::tokenizer::tests::{bytes_only, bytes_only_json, qwen};

    /// What texts are made of: everything that the patterns tell apart, and pieces of added tokens.
    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-zA-Z]{1,6}",
            3 => " {1,3}",
            2 => "[0-9]{1,4}",
            2 => "[\r\n]{1,3}",
            2 => "[\t\u{a0}\u{2003}\u{85}]{1,2}",
            2 => "[.,;:!?'\"`~^(){}<>|_=+*/#$%&@\\[\\]-]{1,4}",
            1 => "'(s|S|t|re|VE|m|ll|d)",
            2 => "[\u{300}-\u{304}\u{327}\u{3099}\u{903}]{1,2}",
            2 => "[éüßñΩżЖя]{1,3}",
            2 => "[世界你好、。，「」ひらカタがハ]{1,4}",
            1 => "[가각힣\u{1100}\u{1161}\u{11a8}]{1,3}",
            1 => "[٣४½Ⅷ²]{1,2}",
            1 => "[😀🏽👩\u{200d}🚀]{1,3}",
            1 => "[\u{0}\u{1f}\u{7f}\u{200b}\u{feff}]{1,2}",
            // Characters that NFC turns into ASCII, and one that composes with `>` and `=`.
            1 => "[\u{212a}\u{37e}\u{1fef}\u{338}]{1,2}",
            2 => prop::sample::select(vec![
                "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>", "</tool_call>",
                "<|im_", "start|>", "<think", "k>", "<|", "|>", "<thin\u{212a}>", "thin\u{212a}", "think", "ac", " ac ",
            ]).prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    /// Cut wherever it is allowed, the text has the tokens of the whole.
    fn agrees(tokenizer: &Tokenizer, text: &str) -> Result<(), TestCaseError> {
        let whole = tokenizer.encode(text).unwrap();
        for size in [1, 7, 30] {
            let cut = tokenizer.encode_pieces(text, size, usize::MAX, || true);
            prop_assert_eq!(&cut.unwrap(), &whole, "{:?} in pieces of {}", text, size);
        }
        Ok(())
    }

    fn tiny() -> Tokenizer {
        let file = embedded::FILES
            .iter()
            .find(|(name, _)| *name == "tokenizer.json");
        Tokenizer::from_bytes(file.unwrap().1).unwrap()
    }

    /// Added tokens and the flags that they have.
    const FLAGGED: [&[(&str, &[&str])]; 9] = [
        &[("<think>", &["normalized"])],
        &[("<thinK>", &["normalized"]), ("<|im_end|>", &[])],
        &[("<think>", &["lstrip"])],
        &[("<think>", &["rstrip"]), ("<|im_end|>", &["lstrip"])],
        &[("<think>", &["normalized", "lstrip", "rstrip"])],
        &[("think", &["single_word"]), ("<|im_end|>", &["rstrip"])],
        &[("thinK", &["single_word", "normalized"])],
        &[
            ("ac", &["single_word", "lstrip"]),
            ("<|im_end|>", &["normalized", "rstrip"]),
        ],
        &[
            (" <think>\n", &["lstrip"]),
            ("\n<|im_end|> ", &["rstrip", "normalized"]),
        ],
    ];

    fn flagged(tokens: &[(&str, &[&str])]) -> Tokenizer {
        let mut json = bytes_only_json(258);
        let token = |(index, (content, flags)): (usize, &(&str, &[&str]))| {
            let has = |flag| flags.contains(&flag);
            json!({
                "id": 258 + index, "content": content, "special": true, "normalized": has("normalized"),
                "lstrip": has("lstrip"), "rstrip": has("rstrip"), "single_word": has("single_word"),
            })
        };
        json["added_tokens"] = tokens.iter().enumerate().map(token).collect();
        Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn text_with_flagged_added_tokens_is_cut_near_the_size() {
        for tokens in FLAGGED {
            let tokenizer = flagged(tokens);
            let text = "The quick brown fox, <think> and\n<|im_end|> so. ".repeat(100);
            let mut rest = text.as_str();
            while rest.len() > 128 {
                let len = tokenizer.cuts.first(rest, 32).unwrap();
                assert!((32..64).contains(&len), "{len} with {tokens:?}");
                rest = &rest[len..];
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn pieces_have_the_tokens_of_the_whole_with_the_built_in_tokenizer(text in any_text()) {
            use std::sync::LazyLock;
            static TINY: LazyLock<Tokenizer> = LazyLock::new(tiny);
            agrees(&TINY, &text)?;
        }

        #[test]
        fn pieces_have_the_tokens_of_the_whole_with_gpt2_s_pattern(text in any_text()) {
            agrees(&bytes_only(), &text)?;
        }

        #[test]
        fn pieces_have_the_tokens_of_the_whole_with_flagged_added_tokens(
            text in any_text(),
            index in 0usize..FLAGGED.len(),
        ) {
            use std::sync::LazyLock;
            static MADE: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| FLAGGED.iter().map(|flags| flagged(flags)).collect());
            agrees(&MADE[index], &text)?;
        }

        #[test]
        fn pieces_have_the_tokens_of_the_whole_with_the_production_tokenizer(text in any_text()) {
            if let Some(tokenizer) = qwen() {
                agrees(tokenizer, &text)?;
            }
        }
    }

    #[test]
    fn ordinary_text_is_cut_near_the_size_that_was_asked_for() {
        let tokenizer = tiny();
        for (text, most) in [
            ("The quick brown fox. ", 8),
            ("{\"key\":[1,2,3]},", 6),
            ("第一章。天地玄黄，宇宙洪荒。", 24),
            ("<|im_start|><|im_end|>", 14),
            ("31415926", 2),
            ("fn main() {\n\n    println!();\n}\n\n", 24),
        ] {
            let text = text.repeat(100);
            let mut rest = text.as_str();
            while rest.len() > 64 {
                let len = tokenizer.cuts.first(rest, 32).unwrap();
                assert!((32..32 + most).contains(&len), "{len}: {rest:.40}");
                rest = &rest[len..];
            }
        }
    }

    #[test]
    fn an_unknown_pre_tokenizer_is_not_cut() {
        let unknown = json!({ "pre_tokenizer": { "type": "Whitespace" }, "added_tokens": [] });
        let cuts = Cuts::of(&unknown);
        assert_eq!(cuts.pattern, None);
        let text = "word ".repeat(LONGEST_PIECE / 5 + 1);
        assert_eq!(cuts.first(&text, 10), Err(NoCut));
        assert_eq!(cuts.first(&text[..LONGEST_PIECE], 10), Ok(LONGEST_PIECE));
    }

    #[test]
    fn overlapping_added_tokens_are_not_apart() {
        let apart = |tokens: &[&str]| {
            let read = |content| AddedToken::read(&json!({ "content": content }), true).unwrap();
            are_apart(&tokens.iter().map(read).collect::<Vec<_>>())
        };
        assert!(apart(&["<|a|>", "<|b|>", "</a>"]));
        assert!(!apart(&["abc", "cd"]));
        assert!(!apart(&["abcd", "bc"]));
        assert!(!apart(&["ab", "abc"]));
        assert!(!apart(&["aba"]));
    }
}
