//! One sequence's sampler: logits in, a token out.

use sanctum_grammar::Mask;

use super::Sampling;
use super::candidates::Candidates;
use super::history::TokenHistory;
use super::random::Random;
use super::softmax;

/// The log probability reported for a token that is all but impossible, since JSON has no infinity; vLLM's.
const LEAST_LOGPROB: f32 = -9999.0;

/// Chooses the tokens of one sequence and remembers them.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    history: TokenHistory,
    random: Random,
    candidates: Candidates,
    /// Each adjusted token and what its logit was, while log probabilities are asked for.
    adjusted: Vec<(u32, f32)>,
}

/// The token that was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledToken {
    /// Its id.
    pub id: u32,
    /// If asked for: its log probability, then the most likely tokens with theirs, most likely first. They are the model's
    /// own, before bias, penalties, temperature and filters.
    pub logprob: Option<(f32, Vec<(u32, f32)>)>,
}

/// Why no token could be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The model's own logits have no largest one.
    #[error("the model's logits are not finite numbers; its weights may be damaged")]
    NotFinite,
    /// Those that are left of them have none.
    #[error(
        "no token that may follow has a finite logit; ask for a less extreme logit_bias or penalty"
    )]
    NoneLeft,
}

impl Sampler {
    /// A sampler for valid parameters ([`Sampling::validate`]) and a sequence that begins with `prompt`.
    pub fn new(sampling: Sampling, prompt: &[u32]) -> Self {
        Self {
            history: TokenHistory::new(&sampling, prompt),
            random: Random::new(sampling.seed),
            candidates: Candidates::default(),
            adjusted: Vec::new(),
            sampling,
        }
    }

    /// Whether it always chooses the argmax of the model's own logits: then a backend can choose it.
    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature == 0.0 && self.history.never_adjusts(&self.sampling)
    }

    /// Chooses the next token by the logits of the vocabulary among those that `mask` allows, and remembers it. `logprobs` is
    /// how many of the most likely tokens are reported. The logits are spent: bias and penalties are applied in place.
    ///
    /// # Errors
    /// When a logit is NaN or positive infinity, or all are negative infinity: [`SampleError::NotFinite`] if the model gave
    /// them, [`SampleError::NoneLeft`] if the mask, the bias or the penalties did.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        mask: Option<&Mask>,
        logprobs: Option<usize>,
    ) -> Result<SampledToken, SampleError> {
        let mut max = softmax::max(logits).ok_or(SampleError::NotFinite)?;
        let model = logprobs.map(|count| Distribution::new(logits, max, count));
        if let Some(mask) = mask {
            mask.apply(logits);
            max = softmax::max(logits).ok_or(SampleError::NoneLeft)?;
        }
        self.adjusted.clear();
        if self.history.adjusts(&self.sampling) {
            let adjusted = &mut self.adjusted;
            self.history.adjust(&self.sampling, logits, |id, logit| {
                if model.is_some() {
                    adjusted.push((id, logit));
                }
            });
            max = softmax::max(logits).ok_or(SampleError::NoneLeft)?;
        }
        let id = if self.sampling.temperature == 0.0 {
            softmax::first(logits, max)
        } else {
            let uniform = self.random.uniform();
            self.candidates.draw(&self.sampling, logits, max, uniform)
        };
        self.history.push(id);
        let logprob = model.map(|model| {
            // The first note of a token is the model's own logit.
            let noted = self.adjusted.iter().find(|&&(token, _)| token == id);
            let logit = noted.map_or(logits[id as usize], |&(_, logit)| logit);
            (model.logprob(logit), model.top())
        });
        Ok(SampledToken { id, logprob })
    }
}

/// The log probability of a token, then the `top` most likely tokens with theirs, as [`SampledToken::logprob`] has them.
///
/// # Errors
/// As [`Sampler::sample`].
pub(crate) fn token_logprob(
    logits: &[f32],
    id: u32,
    top: usize,
) -> Result<(f32, Vec<(u32, f32)>), SampleError> {
    let max = softmax::max(logits).ok_or(SampleError::NotFinite)?;
    let model = Distribution::new(logits, max, top);
    Ok((model.logprob(logits[id as usize]), model.top()))
}

/// The model's own distribution, as far as it is reported.
struct Distribution {
    /// `ln Σ exp(logit)`.
    normalizer: f32,
    /// The most likely tokens and their logits, most likely first; of equal logits, the lowest id first.
    ranked: Vec<(u32, f32)>,
}

impl Distribution {
    fn new(logits: &[f32], max: f32, count: usize) -> Self {
        let mut ranked: Vec<(u32, f32)> = Vec::with_capacity(count.min(logits.len()) + 1);
        let mut least = f32::NEG_INFINITY;
        for (id, &logit) in (0..).zip(logits) {
            if count > 0 && (logit > least || ranked.len() < count) {
                let at = ranked.partition_point(|&(_, other)| other >= logit);
                ranked.insert(at, (id, logit));
                ranked.truncate(count);
                if let Some(&(_, last)) = ranked.get(count - 1) {
                    least = last;
                }
            }
        }
        Self {
            normalizer: max + softmax::sum_exp(logits, max).ln() as f32,
            ranked,
        }
    }

    fn logprob(&self, logit: f32) -> f32 {
        (logit - self.normalizer).max(LEAST_LOGPROB)
    }

    fn top(&self) -> Vec<(u32, f32)> {
        let ranked = self.ranked.iter();
        ranked
            .map(|&(id, logit)| (id, self.logprob(logit)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn greedy() -> Sampling {
        Sampling {
            temperature: 0.0,
            ..Sampling::default()
        }
    }

    /// How often each token is drawn in 20,000 draws.
    fn shares(sampling: Sampling, logits: &[f32]) -> Vec<f64> {
        const DRAWS: usize = 20_000;
        let mut sampler = Sampler::new(sampling, &[]);
        let mut counts = vec![0usize; logits.len()];
        for _ in 0..DRAWS {
            let choice = sampler.sample(&mut logits.to_vec(), None, None).unwrap();
            counts[choice.id as usize] += 1;
        }
        counts
            .into_iter()
            .map(|n| n as f64 / DRAWS as f64)
            .collect()
    }

    fn assert_close(shares: &[f64], expected: &[f64]) {
        // Five standard deviations of a share over 20,000 draws.
        let close = shares
            .iter()
            .zip(expected)
            .all(|(s, e)| (s - e).abs() < 0.018);
        assert!(close, "{shares:?} is not {expected:?}");
        for (share, expected) in shares.iter().zip(expected) {
            assert_eq!(*share == 0.0, *expected == 0.0);
        }
    }

    /// Probabilities 0.1, 0.4, 0.2, 0.3.
    fn logits() -> Vec<f32> {
        [0.1f32, 0.4, 0.2, 0.3].map(f32::ln).to_vec()
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_most_likely_tokens() {
        let mut sampler = Sampler::new(greedy(), &[]);
        let choice = sampler
            .sample(&mut [0.0, 2.0, 2.0, -1.0], None, None)
            .unwrap();
        assert_eq!(
            choice,
            SampledToken {
                id: 1,
                logprob: None
            }
        );
    }

    #[test]
    fn draws_follow_the_distribution() {
        assert_close(
            &shares(Sampling::default(), &logits()),
            &[0.1, 0.4, 0.2, 0.3],
        );
        let hot = Sampling {
            temperature: 0.5,
            seed: 1,
            ..Sampling::default()
        };
        assert_close(
            &shares(hot, &logits()),
            &[1.0 / 30.0, 16.0 / 30.0, 4.0 / 30.0, 9.0 / 30.0],
        );
    }

    #[test]
    fn filters_go_by_the_untempered_distribution() {
        let nucleus = Sampling {
            top_p: 0.65,
            temperature: 2.0,
            ..Sampling::default()
        };
        let (a, b) = (0.4f64.sqrt(), 0.3f64.sqrt());
        assert_close(
            &shares(nucleus, &logits()),
            &[0.0, a / (a + b), 0.0, b / (a + b)],
        );
        let top_k = Sampling {
            top_k: 3,
            ..Sampling::default()
        };
        assert_close(
            &shares(top_k, &logits()),
            &[0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0],
        );
        let min_p = Sampling {
            min_p: 0.6,
            ..Sampling::default()
        };
        assert_close(&shares(min_p, &logits()), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
    }

    #[test]
    fn the_seed_decides() {
        let run = |seed| -> Vec<u32> {
            let mut sampler = Sampler::new(
                Sampling {
                    seed,
                    ..Sampling::default()
                },
                &[],
            );
            (0..50)
                .map(|_| sampler.sample(&mut [0.0; 1000], None, None).unwrap().id)
                .collect()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        // The same on every platform and in every release.
        assert_eq!(run(7)[..4], [55, 172, 717, 427]);
    }

    #[test]
    fn penalties_turn_the_choice_and_logprobs_stay_the_models_own() {
        let sampling = Sampling {
            presence_penalty: 1.0,
            logit_bias: vec![(0, 0.5)],
            ..greedy()
        };
        let mut sampler = Sampler::new(sampling, &[]);
        let ids: Vec<u32> = (0..3)
            .map(|_| {
                let choice = sampler.sample(&mut logits(), None, Some(2)).unwrap();
                let (chosen, top) = choice.logprob.unwrap();
                let expected = logits()[choice.id as usize];
                assert!((chosen - expected).abs() < 1e-6, "{chosen} {expected}");
                assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3]);
                assert!((top[0].1 - 0.4f32.ln()).abs() < 1e-6);
                choice.id
            })
            .collect();
        assert_eq!(ids, [1, 3, 2]);
    }

    #[test]
    fn impossible_tokens_have_a_finite_logprob() {
        let mut sampler = Sampler::new(greedy(), &[]);
        let choice = sampler
            .sample(&mut [0.0, f32::NEG_INFINITY], None, Some(5))
            .unwrap();
        assert_eq!(
            choice.logprob,
            Some((0.0, vec![(0, 0.0), (1, LEAST_LOGPROB)]))
        );
        let choice = sampler.sample(&mut [0.0], None, Some(0)).unwrap();
        assert_eq!(choice.logprob, Some((0.0, vec![])));
    }

    #[test]
    fn logits_that_a_penalty_spoils_are_not_the_models() {
        let extreme = Sampling {
            repetition_penalty: f32::MIN_POSITIVE,
            ..greedy()
        };
        let mut sampler = Sampler::new(extreme, &[0]);
        let damaged = sampler.sample(&mut [f32::NAN, 30.0], None, None);
        assert_eq!(damaged, Err(SampleError::NotFinite));
        let spoiled = sampler.sample(&mut [30.0, 1.0], None, None);
        assert_eq!(spoiled, Err(SampleError::NoneLeft));
    }

    proptest! {
        #[test]
        fn no_logits_and_no_valid_parameters_panic(
            mut logits in prop::collection::vec(
                prop_oneof![any::<f32>(), -20.0f32..20.0, Just(f32::NEG_INFINITY)], 0..80),
            temperature in prop_oneof![Just(0.0f32), Just(1e-45), Just(1e-3), 0.0f32..=2.0],
            top_p in prop_oneof![Just(1.0f32), Just(1e-9), 0.001f32..1.0],
            min_p in prop_oneof![Just(0.0f32), 0.0f32..=1.0],
            top_k in 0usize..90,
            repetition_penalty in prop_oneof![Just(1.0f32), Just(1e-30), 0.1f32..3.0],
            seed in any::<u64>(),
            logprobs in prop::option::of(0usize..100),
        ) {
            let sampling = Sampling {
                temperature, top_p, min_p, top_k, repetition_penalty, seed,
                logit_bias: vec![(3, 1.5), (70, -100.0)],
                frequency_penalty: 0.5,
                ..Sampling::default()
            };
            let mut sampler = Sampler::new(sampling, &[1, 1, 2, 1000]);
            for _ in 0..3 {
                let before = logits.clone();
                if let Ok(choice) = sampler.sample(&mut logits, None, logprobs) {
                    // An impossible token is never chosen.
                    prop_assert!(before[choice.id as usize] > f32::NEG_INFINITY);
                }
            }
        }
    }
}
