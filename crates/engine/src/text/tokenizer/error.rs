//! Why a tokenizer cannot be loaded, or a text not be tokenized.

use super::cuts::LONGEST_PIECE;

/// Why a tokenizer cannot be loaded, or a text not be tokenized.
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
    #[error(
        "tokenizer.json: token {token:?} has the id {id}; the largest supported id is {largest}"
    )]
    IdOutOfRange {
        /// The token as the file spells it.
        token: String,
        /// Its id.
        id: u32,
        /// The largest supported id.
        largest: u32,
    },
    /// The library numbers added tokens after the vocabulary, whatever the file says.
    #[error(
        "tokenizer.json: the added token {token:?} has the id {declared}, but the library assigns {assigned:?}; \
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
    #[error("cannot tokenize the text: {0}")]
    Encode(String),
    /// More tokens than the caller accepts; the rest of the text was not tokenized.
    #[error("the text has at least {at_least} tokens")]
    TooLong {
        /// Tokens of the part that was tokenized.
        at_least: usize,
    },
    /// A text that cannot be split.
    #[error(
        "the text has more than {LONGEST_PIECE} bytes in a row without a place to split them (a space, a line break, a \
        digit); insert one"
    )]
    Indivisible,
    /// A text that is too long for a tokenizer whose rules for splitting a text are not known.
    #[error(
        "the text has a part of more than {LONGEST_PIECE} bytes, and this model's tokenizer cannot split it: the \
        pre-tokenizer, the normalizer or an added token in tokenizer.json is of a kind that must see the whole text; \
        shorten the text"
    )]
    NotDivided,
    /// The caller cancelled.
    #[error("tokenizing was cancelled")]
    Stopped,
}
