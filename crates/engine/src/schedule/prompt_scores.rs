//! The log probabilities of a prompt's tokens, for requests that ask for them.
//!
//! The logits of every row of such a prompt are wanted, and a row of them has a number for each token of the vocabulary. So
//! the rows of all such prompts in one pass are limited by the memory of their logits, which admission counts.

use std::sync::OnceLock;

use sanctum_kernels::cpu::Pool;

use crate::sampling::{SampleError, token_logprob};
use crate::schedule::request::TokenLogprob;

/// Bytes of logits of prompts that one pass has.
const PASS_LOGITS: usize = 64 << 20;
/// The device's logits and the copy that the host reads.
const COPIES: usize = 2;

/// Rows of prompts that are scored in one pass, at least one.
pub(crate) fn rows_per_pass(vocab: usize) -> usize {
    (PASS_LOGITS / (size_of::<f32>() * vocab.max(1))).max(1)
}

/// Bytes of logits that a prompt of so many tokens has in one pass at most.
pub(crate) fn logits_bytes(prompt: usize, vocab: usize) -> u64 {
    let rows = rows_per_pass(vocab).min(prompt);
    (COPIES * size_of::<f32>() * rows * vocab) as u64
}

/// The scores of a prompt so far.
#[derive(Debug)]
pub(crate) struct PromptScores {
    /// Neighbours that are reported of each token.
    top: usize,
    tokens: Vec<TokenLogprob>,
    /// A row had logits that are not finite.
    damaged: bool,
}

impl PromptScores {
    /// No tokens yet; each is reported with its `top` most likely neighbours.
    pub(crate) fn new(top: usize) -> Self {
        Self {
            top,
            tokens: Vec::new(),
            damaged: false,
        }
    }

    /// Adds the scores of `ids`, each of which follows a row of the `rows` rows of logits; the last row of a prompt has
    /// none that follows.
    pub(crate) fn add(&mut self, pool: &Pool, ids: &[u32], logits: &[f32], rows: usize) {
        let vocab = logits.len() / rows.max(1);
        let scores: Vec<OnceLock<_>> = ids.iter().map(|_| OnceLock::new()).collect();
        pool.run(ids.len(), &|index| {
            let row = &logits[index * vocab..][..vocab];
            let score = token_logprob(row, ids[index], self.top);
            // Each index is run once.
            let _ = scores[index].set(score);
        });
        for (&id, score) in ids.iter().zip(scores) {
            let score = score.into_inner().unwrap_or(Err(SampleError::NotFinite));
            self.damaged |= score.is_err();
            self.tokens.extend(TokenLogprob::of(id, score.ok()));
        }
    }

    /// Whether the prompt cannot be scored.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// The scores.
    pub(crate) fn take(&mut self) -> Vec<TokenLogprob> {
        std::mem::take(&mut self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_pass_are_limited_by_the_memory_of_their_logits() {
        assert_eq!(rows_per_pass(248_320), 67);
        assert_eq!(logits_bytes(1 << 20, 248_320), 2 * 67 * 4 * 248_320);
        assert!(logits_bytes(1 << 20, 248_320) <= 128 << 20);
        assert_eq!(logits_bytes(3, 248_320), 2 * 3 * 4 * 248_320);
        assert_eq!(rows_per_pass(usize::MAX / 8), 1);
    }

    #[test]
    fn damaged_logits_are_noticed() {
        let pool = Pool::new(2);
        let mut scores = PromptScores::new(1);
        scores.add(&pool, &[1], &[0.0, 0.0, 0.0, 0.0], 2);
        assert!(!scores.is_damaged());
        scores.add(&pool, &[0, 1], &[0.0, 0.0, f32::NAN, 0.0], 2);
        assert!(scores.is_damaged());
        let half = 0.5f32.ln();
        let token = |id| TokenLogprob {
            id,
            logprob: half,
            top: [(0, half)].into(),
        };
        assert_eq!(scores.take(), [token(1), token(0)]);
    }
}
