//! What a sequence has said, and what that does to its logits.

use std::collections::{HashMap, VecDeque};

use super::Sampling;

/// The tokens that the penalties look at. It remembers nothing that no penalty asks for.
#[derive(Clone, Debug)]
pub(super) struct TokenHistory {
    /// The last tokens, prompt included, oldest first; never more than the window.
    recent: VecDeque<u32>,
    /// How often each token occurs in `recent`.
    in_window: HashMap<u32, u32>,
    /// The window; 0 when there is no repetition penalty.
    window: usize,
    /// How often each token was generated, if a penalty needs it.
    generated: Option<HashMap<u32, u32>>,
}

impl TokenHistory {
    /// The history of a sequence that has its prompt and nothing else.
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let window = if sampling.repetition_penalty == 1.0 {
            0
        } else {
            sampling.repetition_window
        };
        let counts = sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0;
        let mut history = Self {
            recent: VecDeque::new(),
            in_window: HashMap::new(),
            window,
            generated: counts.then(HashMap::new),
        };
        for &token in &prompt[prompt.len().saturating_sub(window)..] {
            history.enter_window(token);
        }
        history
    }

    /// Remembers a generated token.
    pub(super) fn push(&mut self, token: u32) {
        self.enter_window(token);
        if let Some(generated) = &mut self.generated {
            *generated.entry(token).or_default() += 1;
        }
    }

    fn enter_window(&mut self, token: u32) {
        if self.window == 0 {
            return;
        }
        if self.recent.len() == self.window
            && let Some(oldest) = self.recent.pop_front()
            && let Some(count) = self.in_window.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.in_window.remove(&oldest);
            }
        }
        self.recent.push_back(token);
        *self.in_window.entry(token).or_default() += 1;
    }

    /// Whether [`TokenHistory::adjust`] would change a logit.
    pub(super) fn adjusts(&self, sampling: &Sampling) -> bool {
        !sampling.logit_bias.is_empty()
            || !self.in_window.is_empty()
            || self.generated.as_ref().is_some_and(|g| !g.is_empty())
    }

    /// Whether it has nothing to remember, so that [`TokenHistory::adjust`] will never change a logit.
    pub(super) fn never_adjusts(&self, sampling: &Sampling) -> bool {
        sampling.logit_bias.is_empty() && self.window == 0 && self.generated.is_none()
    }

    /// Applies the bias and the penalties, and tells `before` of each token and logit that is about to change. Ids
    /// outside the vocabulary are left alone.
    pub(super) fn adjust(
        &self,
        sampling: &Sampling,
        logits: &mut [f32],
        mut before: impl FnMut(u32, f32),
    ) {
        let mut change = |id: u32, to: &dyn Fn(f32) -> f32| {
            if let Some(logit) = logits.get_mut(id as usize) {
                before(id, *logit);
                *logit = to(*logit);
            }
        };
        for &(id, bias) in &sampling.logit_bias {
            change(id, &|logit| logit + bias);
        }
        let penalty = sampling.repetition_penalty;
        for &id in self.in_window.keys() {
            change(id, &|logit| {
                if logit < 0.0 {
                    logit * penalty
                } else {
                    logit / penalty
                }
            });
        }
        for (&id, &count) in self.generated.iter().flatten() {
            let penalty = sampling.presence_penalty + sampling.frequency_penalty * count as f32;
            change(id, &|logit| logit - penalty);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn adjusted(sampling: &Sampling, prompt: &[u32], generated: &[u32]) -> Vec<f32> {
        let mut history = TokenHistory::new(sampling, prompt);
        for &token in generated {
            history.push(token);
        }
        let mut logits = vec![2.0, -2.0, 1.0, -1.0];
        history.adjust(sampling, &mut logits, |_, _| {});
        logits
    }

    #[test]
    fn a_repeated_token_is_penalised_once() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::default()
        };
        assert_eq!(
            adjusted(&sampling, &[0, 1], &[0, 0]),
            [1.0, -4.0, 1.0, -1.0]
        );
    }

    #[test]
    fn presence_and_frequency_count_generated_tokens_only() {
        let sampling = Sampling {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..Sampling::default()
        };
        assert_eq!(
            adjusted(&sampling, &[2, 2], &[0, 1, 0]),
            [1.0, -2.75, 1.0, -1.0]
        );
    }

    #[test]
    fn the_bias_comes_before_the_penalties() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            logit_bias: vec![(0, -3.0), (9, 1.0)],
            ..Sampling::default()
        };
        assert_eq!(adjusted(&sampling, &[0], &[9]), [-2.0, -2.0, 1.0, -1.0]);
    }

    proptest! {
        #[test]
        fn the_window_holds_the_last_tokens(
            prompt in prop::collection::vec(0u32..4, 0..12),
            generated in prop::collection::vec(0u32..4, 0..12),
            window in 0usize..8,
        ) {
            let sampling =
                Sampling { repetition_penalty: 2.0, repetition_window: window, ..Sampling::default() };
            let all = [prompt.clone(), generated.clone()].concat();
            let last = &all[all.len().saturating_sub(window)..];
            let expected: Vec<f32> = [2.0f32, -2.0, 1.0, -1.0]
                .into_iter()
                .zip(0u32..)
                .map(|(logit, id)| match last.contains(&id) {
                    true if logit < 0.0 => logit * 2.0,
                    true => logit / 2.0,
                    false => logit,
                })
                .collect();
            prop_assert_eq!(adjusted(&sampling, &prompt, &generated), expected);
        }
    }
}
