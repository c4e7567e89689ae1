//! The bytes of every token.

use std::collections::HashSet;

use serde_json::Value;

use super::alphabet::Alphabet;
use super::error::TokenizerError;

/// A larger id in a file would only serve to exhaust memory.
const LARGEST_ID: u32 = (1 << 22) - 1;

/// What each token id stands for.
#[derive(Debug)]
pub(super) struct TokenTable {
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Token `id` is `bytes[starts[id]..starts[id + 1]]`.
    starts: Vec<usize>,
    /// Control tokens such as `<|im_end|>`, which are not part of the text.
    special: HashSet<u32>,
    /// Tokens that were added to the vocabulary as a unit, control tokens among them.
    added: HashSet<u32>,
}

/// The part of `tokenizer.json` that the library may change.
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

impl TokenTable {
    /// The vocabulary of a tokenizer that was read from `file`.
    ///
    /// # Errors
    /// When a byte has no token, an id is out of range, or the library has given an added token another id.
    pub(super) fn read(
        tokenizer: &tokenizers::Tokenizer,
        file: Value,
    ) -> Result<Self, TokenizerError> {
        check_added_tokens(tokenizer, file)?;
        let alphabet = Alphabet::new();
        let vocabulary = tokenizer.get_vocab(false);
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
        for (id, token) in tokenizer.get_added_tokens_decoder() {
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
            bytes,
            starts,
            special,
            added,
        })
    }

    /// The bytes of a token; empty for an id outside the vocabulary.
    pub(super) fn token_bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match (self.starts.get(id), self.starts.get(id + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start..end],
            _ => &[],
        }
    }

    /// Whether a token is a control token.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Whether a token was added to the vocabulary as a unit.
    pub(super) fn is_added(&self, id: u32) -> bool {
        self.added.contains(&id)
    }

    /// One more than the largest id.
    pub(super) fn size(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes of the longest token; at least 1.
    pub(super) fn longest_token(&self) -> usize {
        let lengths = self.starts.windows(2).map(|pair| pair[1] - pair[0]);
        lengths.max().unwrap_or(0).max(1)
    }
}

fn check_added_tokens(
    tokenizer: &tokenizers::Tokenizer,
    file: Value,
) -> Result<(), TokenizerError> {
    let declared: Declared =
        serde_json::from_value(file).map_err(|e| TokenizerError::Malformed(e.to_string()))?;
    for token in declared.added_tokens {
        let assigned = tokenizer.token_to_id(&token.content);
        if assigned != Some(token.id) {
            return Err(TokenizerError::AddedTokenMoved {
                token: token.content,
                declared: token.id,
                assigned,
            });
        }
    }
    Ok(())
}

fn check_id(token: &str, id: u32) -> Result<(), TokenizerError> {
    if id > LARGEST_ID {
        return Err(TokenizerError::IdOutOfRange {
            token: token.to_owned(),
            id,
            largest: LARGEST_ID,
        });
    }
    Ok(())
}
