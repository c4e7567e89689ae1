//! How much memory a sequence takes.

use sanctum_kernels::KvMode;

/// What a sequence takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceCost {
    /// Whatever its length.
    pub fixed: u64,
    /// For every token.
    pub per_token: u64,
    /// How the values among that are kept.
    pub kv_cache: KvMode,
    /// Tokens are paid for in pages of so many; at least one.
    pub page: usize,
}

/// What a request takes beside its caches, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtraCost {
    /// Of each token of the answer, until the answer is written.
    pub answer_token: u64,
    /// Of the prompt, as long.
    pub prompt: u64,
    /// While its sequence runs.
    pub running: u64,
}

impl ExtraCost {
    /// Bytes that are kept until an answer of so many tokens is written.
    pub(crate) fn kept(&self, answer: usize) -> u64 {
        self.answer_token
            .saturating_mul(answer as u64)
            .saturating_add(self.prompt)
    }
}

impl SequenceCost {
    /// Bytes of a sequence of so many tokens.
    pub fn of(&self, tokens: usize) -> u64 {
        let tokens = tokens.div_ceil(self.page).saturating_mul(self.page);
        self.fixed
            .saturating_add(self.per_token.saturating_mul(tokens as u64))
    }

    /// Bytes of a prompt and its answer.
    pub(crate) fn of_answer(&self, prompt: usize, answer: usize, extra: ExtraCost) -> u64 {
        self.of(prompt.saturating_add(answer))
            .saturating_add(extra.running)
            .saturating_add(extra.kept(answer))
    }

    /// The longest answer to a prompt that so many bytes hold.
    pub(crate) fn answer_in(&self, bytes: u64, prompt: usize, extra: ExtraCost) -> usize {
        let (mut fits, mut most) = (0, self.tokens_in(bytes).saturating_sub(prompt));
        if extra == ExtraCost::default() {
            return most;
        }
        while fits < most {
            let middle = most - (most - fits) / 2;
            match self.of_answer(prompt, middle, extra) <= bytes {
                true => fits = middle,
                false => most = middle - 1,
            }
        }
        fits
    }

    /// Tokens that so many bytes hold, in one sequence.
    pub fn tokens_in(&self, bytes: u64) -> usize {
        let pages = bytes
            .saturating_sub(self.fixed)
            .checked_div(self.per_token.saturating_mul(self.page as u64));
        pages.map_or(usize::MAX, |pages| {
            usize::try_from(pages).map_or(usize::MAX, |n| n.saturating_mul(self.page))
        })
    }
}
