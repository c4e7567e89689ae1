//! Between text and token ids, as the checkpoint's `tokenizer.json` says.
//!
//! The `tokenizers` crate encodes. Decoding is done here, on bytes: a token of a byte-level vocabulary is a piece of
//! UTF-8 that may begin or end inside a character, so its bytes are the truth and text is only what they add up to.
//! Text that arrives token by token is the business of [`StreamDecoder`](crate::text::stream_decoder::StreamDecoder).

mod cuts;

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokenizers::DecoderWrapper;

use crate::json::without_byte_order_mark;

use cuts::{Cuts, LONGEST_PIECE};

/// Bytes that are tokenized in one go where the text can be cut: milliseconds of work.
const PIECE: usize = 16 << 10;

/// How often a piece of unusual length that waits for another asks whether it is still needed.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// No vocabulary is larger; a larger id in a file would only serve to exhaust memory.
const MAX_TOKEN_ID: u32 = (1 << 22) - 1;

/// A byte-level BPE tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Token `id` is `bytes[starts[id]..starts[id + 1]]`.
    starts: Vec<usize>,
    /// Control tokens such as `<|im_end|>`, which are not part of the text.
    special: HashSet<u32>,
    /// Tokens that were added to the vocabulary as a unit, control tokens among them.
    added: HashSet<u32>,
    /// Where a text can be cut.
    cuts: Cuts,
    /// Taken while a piece of unusual length is tokenized: the library takes hundreds of bytes for each of its bytes.
    long: Turn,
}

/// Why a tokenizer could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not what the `tokenizers` library writes.
    #[error("tokenizer.json: {0}")]
    Malformed(String),
    /// Another family of tokenizers.
    #[error(
        "tokenizer.json: the decoder is not ByteLevel; only byte-level BPE vocabularies, as Qwen's, are supported"
    )]
    NotByteLevel,
    /// Some texts could not be encoded.
    #[error(
        "tokenizer.json: the vocabulary has no token for the byte 0x{0:02x}; a byte-level vocabulary has all 256"
    )]
    MissingByte(u8),
    /// An id that no vocabulary needs.
    #[error("tokenizer.json: token {token:?} has the id {id}; ids end at {MAX_TOKEN_ID}")]
    IdOutOfRange {
        /// The token as the file spells it.
        token: String,
        /// Its id.
        id: u32,
    },
    /// The library numbers added tokens onwards from the vocabulary, whatever the file says.
    #[error(
        "tokenizer.json: the added token {token:?} should have the id {declared} but would get {assigned:?}; \
        added tokens must follow the vocabulary without a gap"
    )]
    AddedTokenMoved {
        /// The token as the file spells it.
        token: String,
        /// Its id in the file.
        declared: u32,
        /// Its id in use.
        assigned: Option<u32>,
    },
    /// The library refused a text.
    #[error("the text could not be tokenized: {0}")]
    Encode(String),
    /// More tokens than there may be; the rest was not looked at.
    #[error("the text has at least {at_least} tokens")]
    TooLong {
        /// Tokens of the part that was tokenized.
        at_least: usize,
    },
    /// A text that is one word.
    #[error(
        "the text has more than {LONGEST_PIECE} bytes in a row without a place to divide them (a space, a line, a digit); \
         divide them"
    )]
    Indivisible,
    /// A text that is too long for a tokenizer whose rules for dividing a text are not known.
    #[error(
        "the text has a part of more than {LONGEST_PIECE} bytes, and this model's tokenizer cannot divide it: the \
         pre-tokenizer, the normalizer or an added token in tokenizer.json is of a kind that must see the whole text; \
         shorten the text"
    )]
    NotDivided,
    /// The caller asked for it.
    #[error("tokenizing was stopped")]
    Stopped,
}

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is malformed, not byte-level, or lacks a byte.
    pub fn from_bytes(json: &[u8]) -> Result<Self, TokenizerError> {
        let json = without_byte_order_mark(json);
        let mut inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        // A file may keep the truncation and padding of the training that wrote it; a prompt is not to be cut or filled.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        if !matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return Err(TokenizerError::NotByteLevel);
        }
        let whole: serde_json::Value =
            serde_json::from_slice(json).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        let cuts = Cuts::of(&whole);
        let declared: Declared =
            serde_json::from_value(whole).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
        for token in declared.added_tokens {
            let assigned = inner.token_to_id(&token.content);
            if assigned != Some(token.id) {
                return Err(TokenizerError::AddedTokenMoved {
                    token: token.content,
                    declared: token.id,
                    assigned,
                });
            }
        }
        let alphabet = Alphabet::new();
        let vocabulary = inner.get_vocab(false);
        for byte in 0..=u8::MAX {
            if !vocabulary.contains_key(alphabet.char_of(byte).encode_utf8(&mut [0; 4]) as &str) {
                return Err(TokenizerError::MissingByte(byte));
            }
        }

        let mut tokens: Vec<(u32, Vec<u8>)> = Vec::with_capacity(vocabulary.len());
        let mut special = HashSet::new();
        let mut added = HashSet::new();
        for (token, id) in vocabulary {
            check_id(&token, id)?;
            tokens.push((id, alphabet.bytes_of(&token)));
        }
        // After the vocabulary, so that a stable sort lets an added token override one with the same id.
        for (id, token) in inner.get_added_tokens_decoder() {
            check_id(&token.content, id)?;
            added.insert(id);
            if token.special {
                special.insert(id);
            }
            tokens.push((id, token.content.into_bytes()));
        }
        tokens.sort_by_key(|&(id, _)| id);

        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for (index, (id, token)) in tokens.iter().enumerate() {
            if tokens.get(index + 1).is_some_and(|(next, _)| next == id) {
                continue;
            }
            starts.resize(*id as usize + 1, bytes.len());
            bytes.extend_from_slice(token);
            starts.push(bytes.len());
        }
        Ok(Self {
            inner,
            bytes,
            starts,
            special,
            added,
            cuts,
            long: Turn::default(),
        })
    }

    /// The token ids of a text. Control tokens spelled out in it (`<|im_start|>`) become their ids, as chat templates
    /// need it; nothing is added before or after.
    ///
    /// # Errors
    /// When the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| TokenizerError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token ids of a text, as [`Tokenizer::encode`] has them, tokenized piece by piece: it ends soon after `most`
    /// tokens, and `goes_on` is asked before each piece.
    ///
    /// # Errors
    /// [`TokenizerError::TooLong`] for more than `most` tokens, [`TokenizerError::Stopped`] when `goes_on` says no,
    /// [`TokenizerError::Indivisible`] for a word that no prompt needs, and [`TokenizerError::NotDivided`] for a long
    /// text if the tokenizer's rules are not known.
    pub fn encode_within(
        &self,
        text: &str,
        most: usize,
        goes_on: impl FnMut() -> bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        self.encode_pieces(text, PIECE, most, goes_on)
    }

    fn encode_pieces(
        &self,
        text: &str,
        size: usize,
        most: usize,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if !goes_on() {
                return Err(TokenizerError::Stopped);
            }
            let Ok(len) = self.cuts.first(rest, size) else {
                return Err(self.no_cut(rest, ids.len(), most));
            };
            let (piece, after) = rest.split_at(len);
            let _turn = match len > 4 * PIECE {
                true => Some(
                    self.long
                        .take_while(&mut goes_on)
                        .ok_or(TokenizerError::Stopped)?,
                ),
                false => None,
            };
            ids.extend(self.encode(piece)?);
            if ids.len() > most {
                return Err(TokenizerError::TooLong {
                    at_least: ids.len(),
                });
            }
            rest = after;
        }
        Ok(ids)
    }

    /// Why a text that no cut begins is refused, after so many tokens before it.
    fn no_cut(&self, rest: &str, before: usize, most: usize) -> TokenizerError {
        let fewest = match self.cuts.keeps_bytes() {
            // NFC shortens a text, in UTF-8 to less than a quarter at no place.
            true if !rest.is_ascii() => rest.len() / 4 / self.longest_token(),
            true => rest.len() / self.longest_token(),
            false => 0,
        };
        if before + fewest > most {
            return TokenizerError::TooLong {
                at_least: before + fewest,
            };
        }
        match self.cuts.are_known() {
            true => TokenizerError::Indivisible,
            false => TokenizerError::NotDivided,
        }
    }

    /// Bytes of the longest token.
    fn longest_token(&self) -> usize {
        let lengths = self.starts.windows(2).map(|pair| pair[1] - pair[0]);
        lengths.max().unwrap_or(0).max(1)
    }

    /// The text of a sequence of tokens, without the control tokens if `skip_special`. Bytes that are not UTF-8 become
    /// U+FFFD, and ids outside the vocabulary nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if !(skip_special && self.is_special(id)) {
                bytes.extend_from_slice(self.token_bytes(id));
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that a token stands for; they may begin or end inside a character. Empty for an id outside the
    /// vocabulary: a model's logits may be wider than its tokenizer.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match (self.starts.get(id), self.starts.get(id + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start..end],
            _ => &[],
        }
    }

    /// The id of a token that the file spells like this, such as `<|im_end|>`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a token is a control token, not text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Whether a token was added to the vocabulary as a unit, as `<tool_call>` and `<|im_end|>` are.
    pub fn is_added(&self, id: u32) -> bool {
        self.added.contains(&id)
    }

    /// The id of a token, spelled as the file spells it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.starts.len() - 1
    }
}

/// What one thread at a time may have. A thread that waits for it leaves as soon as its work is not needed any more.
#[derive(Debug, Default)]
struct Turn {
    taken: Mutex<bool>,
    freed: Condvar,
}

/// Frees the turn when it is dropped.
struct TurnGuard<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn while `goes_on` says so; it is asked last when the turn is taken. None if it says no.
    fn take_while(&self, goes_on: &mut impl FnMut() -> bool) -> Option<TurnGuard<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            if !goes_on() {
                return None;
            }
            let waited = self.freed.wait_timeout(taken, ASK_EVERY);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        drop(taken);
        let guard = TurnGuard(self);
        goes_on().then_some(guard)
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        let taken = &self.0.taken;
        *taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
    }
}

/// The part of the file that the library does not take at its word.
#[derive(serde::Deserialize)]
struct Declared {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
}

#[derive(serde::Deserialize)]
struct DeclaredToken {
    id: u32,
    content: String,
}

fn check_id(token: &str, id: u32) -> Result<(), TokenizerError> {
    if id > MAX_TOKEN_ID {
        return Err(TokenizerError::IdOutOfRange {
            token: token.to_owned(),
            id,
        });
    }
    Ok(())
}

/// The printable stand-ins by which byte-level vocabularies spell bytes: GPT-2's `bytes_to_unicode`. A byte that is
/// printable in Latin-1 stands for itself; the others follow in order from U+0100.
struct Alphabet {
    chars: [char; 256],
}

impl Alphabet {
    fn new() -> Self {
        let mut chars = ['\0'; 256];
        let mut next = 0x100;
        for byte in 0..=u8::MAX {
            chars[byte as usize] = match byte {
                b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
                _ => {
                    next += 1;
                    char::from_u32(next - 1).unwrap_or('\0')
                }
            };
        }
        Self { chars }
    }

    fn char_of(&self, byte: u8) -> char {
        self.chars[byte as usize]
    }

    /// A token with a character outside the alphabet is spelled plainly.
    fn bytes_of(&self, token: &str) -> Vec<u8> {
        token
            .chars()
            .map(|c| match c {
                '!'..='~' | '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}' => Some(c as u8),
                '\u{100}'..='\u{143}' => {
                    self.chars.iter().position(|&own| own == c).map(|b| b as u8)
                }
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()
            .unwrap_or_else(|| token.as_bytes().to_vec())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, LazyLock};

    use super::*;
    use crate::text::production;

    /// 256 single bytes, two merges and two control tokens: small enough to read.
    pub(crate) fn bytes_only() -> Arc<Tokenizer> {
        static MADE: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
            let json = bytes_only_json(258).to_string();
            Arc::new(Tokenizer::from_bytes(json.as_bytes()).unwrap())
        });
        MADE.clone()
    }

    fn bytes_only_json(first_added: u32) -> serde_json::Value {
        let alphabet = Alphabet::new();
        let mut vocab: serde_json::Map<String, serde_json::Value> = (0..=u8::MAX)
            .map(|byte| (alphabet.char_of(byte).to_string(), byte.into()))
            .collect();
        vocab.insert("ab".into(), 256.into());
        vocab.insert("Ġab".into(), 257.into());
        let added = |id: u32, content: &str, special: bool| {
            serde_json::json!({"id": id, "content": content, "special": special, "normalized": false,
                "lstrip": false, "rstrip": false, "single_word": false})
        };
        serde_json::json!({
            "version": "1.0",
            "added_tokens": [added(first_added, "<|im_end|>", true), added(first_added + 1, "<think>", false)],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"], ["Ġ", "ab"]]},
        })
    }

    /// Qwen3.5's own tokenizer.
    pub(crate) fn qwen() -> Option<&'static Tokenizer> {
        static QWEN: LazyLock<Option<Tokenizer>> = LazyLock::new(|| {
            let json = production::file("tokenizer.json")?;
            Some(Tokenizer::from_bytes(&json).unwrap())
        });
        QWEN.as_ref()
    }

    #[test]
    fn control_tokens_in_the_text_become_their_ids() {
        let tokenizer = bytes_only();
        let ids = tokenizer.encode("ab ab<|im_end|>\n<think>").unwrap();
        assert_eq!(ids, [256, 257, 258, u32::from(b'\n'), 259]);
        assert_eq!(tokenizer.token_id("<|im_end|>"), Some(258));
        assert_eq!(tokenizer.decode(&ids, false), "ab ab<|im_end|>\n<think>");
        assert_eq!(tokenizer.decode(&ids, true), "ab ab\n<think>");
    }

    #[test]
    fn a_long_text_is_tokenized_up_to_the_limit_only() {
        let tokenizer = bytes_only();
        let text = "ab ".repeat(100_000);
        let mut pieces = 0;
        let error = tokenizer.encode_within(&text, 1000, || {
            pieces += 1;
            true
        });
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("the text has at least "), "{error}");
        assert_eq!(pieces, 1);
        let fits = tokenizer.encode_within(&text, usize::MAX, || true).unwrap();
        assert_eq!(fits, tokenizer.encode(&text).unwrap());
    }

    #[test]
    fn tokenizing_stops_when_the_caller_says_so() {
        let text = "ab ".repeat(100_000);
        let mut left = 3;
        let error = bytes_only().encode_within(&text, usize::MAX, || {
            left -= 1;
            left > 0
        });
        assert!(matches!(error, Err(TokenizerError::Stopped)));
        assert_eq!(left, 0);
    }

    #[test]
    fn a_word_of_megabytes_is_refused_by_name() {
        let text = "=".repeat(LONGEST_PIECE + 1);
        let error = bytes_only().encode_within(&text, usize::MAX, || true);
        assert!(matches!(error, Err(TokenizerError::Indivisible)));
    }

    #[test]
    fn word_that_has_more_tokens_than_fit_is_too_long() {
        let text = "=".repeat(LONGEST_PIECE + 1);
        // The longest token is `<|im_end|>`.
        let fewest = text.len() / 10;
        let error = bytes_only().encode_within(&text, fewest - 1, || true);
        assert!(
            matches!(error, Err(TokenizerError::TooLong { at_least }) if at_least == fewest),
            "{error:?}"
        );
        let error = bytes_only().encode_within(&text, fewest, || true);
        assert!(matches!(error, Err(TokenizerError::Indivisible)));
    }

    #[test]
    fn long_text_of_a_tokenizer_without_cuts_is_refused_by_its_reason() {
        let mut json = bytes_only_json(258);
        json["added_tokens"][0]["normalized"] = true.into();
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        let text = "ab ".repeat(LONGEST_PIECE / 3 + 1);
        let error = tokenizer.encode_within(&text, usize::MAX, || true);
        assert!(matches!(error, Err(TokenizerError::NotDivided)));
        let error = tokenizer.encode_within(&text, 1000, || true);
        assert!(matches!(error, Err(TokenizerError::TooLong { .. })));
    }

    #[test]
    fn long_piece_that_waits_for_another_stops_when_its_client_leaves() {
        let tokenizer = bytes_only();
        let text = "=".repeat(4 * PIECE + 1);
        let turn = tokenizer.long.take_while(&mut || true).unwrap();
        let mut asked = 0;
        let error = tokenizer.encode_within(&text, usize::MAX, || {
            asked += 1;
            asked < 4
        });
        assert!(matches!(error, Err(TokenizerError::Stopped)));
        drop(turn);
        // Asked again with the turn, which is freed when the answer is no.
        let mut asked = 0;
        let error = tokenizer.encode_within(&text, usize::MAX, || {
            asked += 1;
            asked < 2
        });
        assert!(matches!(error, Err(TokenizerError::Stopped)));
        assert!(tokenizer.encode_within(&text, usize::MAX, || true).is_ok());
    }

    #[test]
    fn every_id_has_bytes_or_is_empty() {
        let tokenizer = bytes_only();
        assert_eq!(tokenizer.vocab_size(), 260);
        assert_eq!(tokenizer.token_bytes(0), [0]);
        assert_eq!(tokenizer.token_bytes(0xff), [0xff]);
        assert_eq!(tokenizer.token_bytes(257), b" ab");
        assert_eq!(tokenizer.token_bytes(258), b"<|im_end|>");
        assert_eq!(tokenizer.token_bytes(260), b"");
        assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    }

    #[test]
    fn text_is_normalised_before_it_is_encoded() {
        let tokenizer = bytes_only();
        assert_eq!(tokenizer.encode("e\u{301}").unwrap(), [0xc3, 0xa9]);
    }

    #[test]
    fn a_file_that_cannot_serve_is_refused_with_the_reason() {
        let refuse = |json: serde_json::Value| {
            Tokenizer::from_bytes(json.to_string().as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert!(refuse(serde_json::json!({})).starts_with("tokenizer.json: "));
        let model = serde_json::json!({"type": "BPE", "vocab": {"a": 0}, "merges": []});
        assert!(refuse(serde_json::json!({"model": model.clone()})).contains("ByteLevel"));
        let decoder = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false});
        assert!(
            refuse(serde_json::json!({"model": model, "decoder": decoder})).contains("byte 0x00")
        );
        let gap = refuse(bytes_only_json(300));
        assert!(gap.contains("<|im_end|>") && gap.contains("300"), "{gap}");
    }

    #[test]
    fn qwen_encodes_as_hugging_face_does() {
        let (Some(tokenizer), Some(cases)) = (qwen(), production::file("tokenizer_cases.jsonl"))
        else {
            return;
        };
        let mut seen = 0;
        for line in String::from_utf8(cases).unwrap().lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = case["text"].as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
            let cut = tokenizer.encode_pieces(text, 1, usize::MAX, || true);
            assert_eq!(cut.unwrap(), ids, "{text:?}");
            // NFC is the one thing that encoding does not keep.
            if tokenizer.decode(&ids, false) != text {
                let normalised = tokenizer.decode(&ids, false);
                assert_eq!(tokenizer.encode(&normalised).unwrap(), ids, "{text:?}");
            }
            seen += 1;
        }
        assert!(seen > 40, "{seen} cases");
    }

    #[test]
    fn qwen_decodes_every_token_as_hugging_face_does() {
        let Some(tokenizer) = qwen() else { return };
        assert_eq!(tokenizer.vocab_size(), 151_669);
        for id in 0..tokenizer.vocab_size() as u32 {
            let theirs = tokenizer.inner.decode(&[id], false).unwrap();
            assert_eq!(tokenizer.decode(&[id], false), theirs, "token {id}");
        }
        let end = tokenizer.token_id("<|im_end|>").unwrap();
        assert!(tokenizer.is_special(end));
        assert!(!tokenizer.is_special(tokenizer.token_id("<think>").unwrap()));
    }
}
