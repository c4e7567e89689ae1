//! The bytes of a model's tokens, as a trie.

use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::GrammarError;

/// One token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBytes {
    /// The text that it stands for; empty if it has none.
    pub bytes: Vec<u8>,
    /// Whether it was added to the vocabulary as a unit, such as `<tool_call>` or `<|im_end|>`. Such a token never
    /// stands for ordinary text of an answer, whatever the tokenizer's flag `special` says.
    pub added: bool,
}

/// What constraints need to know of a tokenizer.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Every token, by id.
    pub tokens: Vec<TokenBytes>,
    /// The tokens that end a sequence.
    pub ends: Vec<u32>,
}

/// llguidance's mark of a token that is not text.
const MARKER: u8 = 0xFF;

impl Vocabulary {
    /// The id of an added token.
    pub(crate) fn added(&self, text: &str) -> Option<u32> {
        let is = |token: &TokenBytes| token.added && token.bytes == text.as_bytes();
        self.tokens.iter().position(is).map(|id| id as u32)
    }

    /// The ordinary tokens whose bytes satisfy `test`.
    pub(crate) fn texts(&self, test: impl Fn(&[u8]) -> bool) -> Vec<u32> {
        let tokens = self.tokens.iter().enumerate();
        tokens
            .filter(|(_, token)| !token.added && !token.bytes.is_empty() && test(&token.bytes))
            .map(|(id, _)| id as u32)
            .collect()
    }

    /// The trie of all tokens.
    pub(crate) fn environment(&self) -> Result<TokEnv, GrammarError> {
        let Some(&end) = self.ends.first() else {
            return Err(GrammarError::Vocabulary(
                "it names no token that ends a sequence".into(),
            ));
        };
        let words: Vec<Vec<u8>> = self
            .tokens
            .iter()
            .enumerate()
            .map(|(id, token)| match token {
                // A token without a text must not match the empty string.
                TokenBytes { bytes, .. } if bytes.is_empty() => {
                    [&[MARKER], format!("<[unused {id}]>").as_bytes()].concat()
                }
                TokenBytes { bytes, added: true } => [&[MARKER], bytes.as_slice()].concat(),
                TokenBytes { bytes, .. } => bytes.clone(),
            })
            .collect();
        let info = TokRxInfo::new(words.len() as u32, end);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&self.ends);
        Ok(Arc::new(ApproximateTokEnv::new(trie)))
    }
}
