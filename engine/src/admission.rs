//! Whether a sequence fits into memory, decided before it is begun.
//!
//! Every sequence reserves what it may come to need: a share that does not grow, for the recurrent layers, and so
//! much a token, for keys and values. Together the running ones never reserve more than there is, so that a burst of
//! long prompts waits instead of driving the machine into swapping.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sanctum_kernels::KvMode;

use crate::request::SubmitError;

/// Tokens that an answer of no stated length may have even if a slot's even share of memory holds fewer.
const SHORT_ANSWER: usize = 1024;

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

impl SequenceCost {
    /// Bytes of a sequence of so many tokens.
    pub fn of(&self, tokens: usize) -> u64 {
        let tokens = tokens.div_ceil(self.page).saturating_mul(self.page);
        self.fixed
            .saturating_add(self.per_token.saturating_mul(tokens as u64))
    }

    /// Tokens that so many bytes hold.
    fn tokens_in(&self, bytes: u64) -> usize {
        let pages = bytes
            .saturating_sub(self.fixed)
            .checked_div(self.per_token.saturating_mul(self.page as u64));
        pages.map_or(usize::MAX, |pages| {
            usize::try_from(pages).map_or(usize::MAX, |n| n.saturating_mul(self.page))
        })
    }
}

/// The memory that sequences may take, and what is reserved of it.
#[derive(Debug)]
pub struct Admission {
    /// What one of them takes.
    pub cost: SequenceCost,
    /// Bytes for all of them; another engine may take some of them over, or leave some behind.
    budget: AtomicU64,
    /// Bytes that running ones have reserved.
    pub reserved: AtomicU64,
}

impl Admission {
    /// So many bytes for sequences of this cost.
    pub fn new(cost: SequenceCost, budget: u64) -> Self {
        Self {
            cost,
            budget: AtomicU64::new(budget),
            reserved: AtomicU64::new(0),
        }
    }

    /// Room without end.
    pub fn unlimited() -> Self {
        let cost = SequenceCost {
            fixed: 0,
            per_token: 0,
            kv_cache: KvMode::Plain,
            page: 1,
        };
        Self::new(cost, u64::MAX)
    }

    /// Bytes for all of them.
    pub fn budget(&self) -> u64 {
        self.budget.load(Relaxed)
    }

    /// So many bytes from now on. Sequences that run keep what they have reserved.
    pub fn set_budget(&self, bytes: u64) {
        self.budget.store(bytes, Relaxed);
    }

    /// How long an answer to a prompt may get: `wanted` if it was asked for by number, else what the even share of
    /// one of `slots` holds, up to `room`.
    ///
    /// # Errors
    /// If memory would not hold it even if nobody else were served.
    pub fn answer(
        &self,
        prompt: usize,
        wanted: Option<usize>,
        room: usize,
        slots: usize,
    ) -> Result<usize, SubmitError> {
        let budget = self.budget();
        let fits = |answer: usize| self.cost.of(prompt.saturating_add(answer)) <= budget;
        let answer = wanted.unwrap_or_else(|| {
            let share = budget / slots.max(1) as u64;
            let share = self.cost.tokens_in(share).saturating_sub(prompt);
            let most = self.cost.tokens_in(budget).saturating_sub(prompt);
            share.max(SHORT_ANSWER).min(most).clamp(1, room)
        });
        match fits(answer) {
            true => Ok(answer),
            false => Err(SubmitError::TooMuchMemory {
                tokens: prompt.saturating_add(answer),
                needed_mib: self
                    .cost
                    .of(prompt.saturating_add(answer))
                    .div_ceil(1 << 20),
                available_mib: budget >> 20,
                holds: self.cost.tokens_in(budget),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn admission(budget: u64) -> Admission {
        let cost = SequenceCost {
            fixed: 100 * MIB,
            per_token: MIB / 16,
            kv_cache: KvMode::Plain,
            page: 64,
        };
        Admission::new(cost, budget)
    }

    #[test]
    fn a_page_that_is_begun_is_paid_for() {
        let cost = admission(0).cost;
        assert_eq!(cost.of(0), 100 * MIB);
        assert_eq!(cost.of(1), cost.of(64));
        assert_eq!(cost.of(65), 108 * MIB);
    }

    #[test]
    fn a_stated_length_is_granted_or_refused_with_the_numbers() {
        let admission = admission(300 * MIB);
        assert_eq!(admission.answer(1000, Some(2000), 9000, 4), Ok(2000));
        let refused = admission.answer(1000, Some(3000), 9000, 4).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "4000 tokens would take 352 MiB of memory and there are 300 MiB, enough for 3200 tokens; \
             shorten the prompt or lower max_tokens"
        );
    }

    #[test]
    fn an_answer_of_no_stated_length_gets_a_slot_s_share() {
        let share = |budget: u64, prompt| admission(budget * MIB).answer(prompt, None, 9000, 4);
        // A quarter of 1200 MiB holds 3200 tokens.
        assert_eq!(share(1200, 200), Ok(3000));
        // A prompt beyond its share may still be answered, while all of the memory holds it.
        assert_eq!(share(1200, 5000), Ok(1024));
        assert_eq!(share(300, 3150), Ok(50));
        assert!(share(300, 3300).is_err());
        assert_eq!(share(1 << 30, 10), Ok(9000));
    }

    #[test]
    fn without_a_limit_everything_fits() {
        let admission = Admission::unlimited();
        assert_eq!(admission.answer(5, None, 9000, 4), Ok(9000));
        assert_eq!(admission.answer(5, Some(7), 9000, 4), Ok(7));
    }
}
