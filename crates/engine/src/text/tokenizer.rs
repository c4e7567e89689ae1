//! Between text and token ids, as the checkpoint's `tokenizer.json` defines them.
//!
//! The `tokenizers` crate encodes. Decoding is done here, on bytes: a token of a byte-level vocabulary is a piece of
//! UTF-8 that may begin or end inside a character, so its bytes are the truth and text is only what they add up to.
//! [`StreamDecoder`](crate::text::StreamDecoder) decodes text that arrives token by token.

mod added;
mod alphabet;
mod cuts;
mod error;
mod lock;
#[cfg(test)]
pub(crate) mod tests;
mod vocabulary;

use serde_json::Value;
use tokenizers::DecoderWrapper;

pub use error::TokenizerError;

use crate::json;
use cuts::Cuts;
use lock::CancellableLock;
use vocabulary::TokenTable;

/// Bytes that are tokenized at once where the text can be cut: milliseconds of work.
const PIECE: usize = 16 << 10;

/// Longer pieces are tokenized one at a time: the library takes hundreds of bytes of memory for each of their bytes.
const LONG_PIECE: usize = 4 * PIECE;

/// A byte-level BPE tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocabulary: TokenTable,
    /// Where a text can be cut.
    cuts: Cuts,
    /// HeldMemory while a piece of more than [`LONG_PIECE`] bytes is tokenized.
    long_piece: CancellableLock,
}

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is malformed, not byte-level, or lacks a byte.
    pub fn from_bytes(file: &[u8]) -> Result<Self, TokenizerError> {
        let malformed =
            |error: &dyn std::fmt::Display| TokenizerError::Malformed(error.to_string());
        let standard = json::to_standard(file).map_err(|e| malformed(&e))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&standard).map_err(|e| malformed(&e))?;
        // A file may keep the truncation and padding of the training that wrote it: a prompt must be neither cut nor
        // padded.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| malformed(&e))?;
        if !matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return Err(TokenizerError::NotByteLevel);
        }
        let whole: Value = serde_json::from_slice(&standard).map_err(|e| malformed(&e))?;
        Ok(Self {
            cuts: Cuts::of(&whole),
            vocabulary: TokenTable::read(&inner, whole)?,
            inner,
            long_piece: CancellableLock::default(),
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

    /// The token ids of a text, the same as [`Tokenizer::encode`] gives, tokenized piece by piece: it ends soon after
    /// `most` tokens, and `should_continue` is asked before each piece.
    ///
    /// # Errors
    /// [`TokenizerError::TooLong`] for more than `most` tokens, [`TokenizerError::Stopped`] when `should_continue` says
    /// no, [`TokenizerError::Indivisible`] for a word that no prompt needs, and [`TokenizerError::NotDivided`] for a
    /// long text if the tokenizer's rules are not known.
    pub fn encode_within(
        &self,
        text: &str,
        most: usize,
        should_continue: impl FnMut() -> bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        self.encode_pieces(text, PIECE, most, should_continue)
    }

    fn encode_pieces(
        &self,
        text: &str,
        size: usize,
        most: usize,
        mut should_continue: impl FnMut() -> bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if !should_continue() {
                return Err(TokenizerError::Stopped);
            }
            let Ok(len) = self.cuts.first(rest, size) else {
                return Err(self.no_cut(rest, ids.len(), most));
            };
            let (piece, after) = rest.split_at(len);
            let _guard = match len > LONG_PIECE {
                true => Some(
                    self.long_piece
                        .lock_while(&mut should_continue)
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

    /// Why a text without a cut at its beginning is refused, after so many tokens before it.
    fn no_cut(&self, rest: &str, before: usize, most: usize) -> TokenizerError {
        let longest = self.vocabulary.longest_token();
        let fewest = match self.cuts.keeps_bytes() {
            // NFC shortens no text to less than a quarter of its bytes.
            true if !rest.is_ascii() => rest.len() / 4 / longest,
            true => rest.len() / longest,
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
        self.vocabulary.token_bytes(id)
    }

    /// The id of a token that the file spells like this, such as `<|im_end|>`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a token is a control token, not text.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary.is_special(id)
    }

    /// Whether a token was added to the vocabulary as a unit, as `<tool_call>` and `<|im_end|>` are.
    pub fn is_added(&self, id: u32) -> bool {
        self.vocabulary.is_added(id)
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.size()
    }
}
