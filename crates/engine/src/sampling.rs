//! How the next token is chosen.
//!
//! In this order, which is mlx-lm's (`sample_utils.py`):
//!
//! 1. The logit bias is added, then the repetition penalty taken, then the presence and frequency penalties.
//! 2. At temperature 0 the most likely token is chosen (argmax); of equal logits, the one with the lowest id.
//! 3. Otherwise top-p, then top-k and min-p drop unlikely tokens, all by their probabilities at temperature 1.
//!    (top-p counts on the whole distribution; the other two commute.)
//! 4. One of the rest is drawn, by the probabilities at the temperature asked for.
//!
//! Equal logits, parameters, history and seed give the same token on every platform: the exponential is our own
//! (`softmax`), and sums run in one fixed order.

mod candidates;
mod history;
mod random;
mod sampler;
mod softmax;

pub(crate) use sampler::token_logprob;
pub use sampler::{SampleError, SampledToken, Sampler};

/// The parameters of a request; [`Sampling::validate`] checks them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 chooses the most likely token; otherwise logits are divided by it.
    pub temperature: f32,
    /// Nucleus: keep the most likely tokens up to this share of the (untempered) probability; 1 keeps all. Tokens as
    /// likely as the last one kept are kept too.
    pub top_p: f32,
    /// Keep at most this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Drop tokens less likely than this share of the most likely one's probability; 0 keeps all.
    pub min_p: f32,
    /// Divide positive and multiply negative logits of recent tokens by it; 1 changes nothing. A token is penalised
    /// once, however often it occurs.
    pub repetition_penalty: f32,
    /// How many recent tokens, prompt included, the repetition penalty looks at.
    pub repetition_window: usize,
    /// Subtracted once from the logit of every token generated so far.
    pub presence_penalty: f32,
    /// Subtracted from the logit of every token once for each time it was generated.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes the choice repeatable.
    pub seed: u64,
}

impl Default for Sampling {
    /// What the OpenAI API does when a request says nothing, and mlx-lm's window of 20 tokens.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 20,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// A parameter that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidSampling {
    /// A number outside its range.
    #[error("{field} must be {range}, not {value}")]
    OutOfRange {
        /// The request's field.
        field: &'static str,
        /// What it may be.
        range: &'static str,
        /// What it is.
        value: f32,
    },
    /// A bias for a token that the model does not have.
    #[error("logit_bias names token {id}, but the model's vocabulary has {vocab} tokens")]
    UnknownToken {
        /// The token.
        id: u32,
        /// The size of the vocabulary.
        vocab: usize,
    },
}

impl InvalidSampling {
    /// The request's field that is wrong.
    pub fn field(&self) -> &'static str {
        match self {
            Self::OutOfRange { field, .. } => field,
            Self::UnknownToken { .. } => "logit_bias",
        }
    }
}

impl Sampling {
    /// Checks every parameter against its range, which is OpenAI's where OpenAI has the parameter and vLLM's elsewhere.
    /// `vocab` is the number of logits.
    ///
    /// # Errors
    /// The first parameter that is out of range.
    pub fn validate(&self, vocab: usize) -> Result<(), InvalidSampling> {
        let check = |field, value: f32, valid: bool, range| {
            if valid {
                Ok(())
            } else {
                Err(InvalidSampling::OutOfRange {
                    field,
                    range,
                    value,
                })
            }
        };
        let t = self.temperature;
        check(
            "temperature",
            t,
            (0.0..=2.0).contains(&t),
            "between 0 and 2",
        )?;
        let p = self.top_p;
        check("top_p", p, p > 0.0 && p <= 1.0, "above 0 and at most 1")?;
        let m = self.min_p;
        check("min_p", m, (0.0..=1.0).contains(&m), "between 0 and 1")?;
        let r = self.repetition_penalty;
        check(
            "repetition_penalty",
            r,
            r > 0.0 && r.is_finite(),
            "a number above 0",
        )?;
        for (field, value) in [
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ] {
            check(
                field,
                value,
                (-2.0..=2.0).contains(&value),
                "between -2 and 2",
            )?;
        }
        for &(id, bias) in &self.logit_bias {
            check(
                "logit_bias",
                bias,
                (-100.0..=100.0).contains(&bias),
                "between -100 and 100",
            )?;
            if id as usize >= vocab {
                return Err(InvalidSampling::UnknownToken { id, vocab });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Sampling::default().validate(1), Ok(()));
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let refuse = |change: fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            sampling.validate(10).unwrap_err()
        };
        let hot = refuse(|s| s.temperature = 2.5);
        assert_eq!(hot.field(), "temperature");
        assert_eq!(
            hot.to_string(),
            "temperature must be between 0 and 2, not 2.5"
        );
        assert_eq!(refuse(|s| s.temperature = f32::NAN).field(), "temperature");
        assert_eq!(refuse(|s| s.top_p = 0.0).field(), "top_p");
        assert_eq!(refuse(|s| s.min_p = -0.1).field(), "min_p");
        assert_eq!(
            refuse(|s| s.repetition_penalty = 0.0).field(),
            "repetition_penalty"
        );
        assert_eq!(
            refuse(|s| s.presence_penalty = 3.0).field(),
            "presence_penalty"
        );
        assert_eq!(
            refuse(|s| s.frequency_penalty = -3.0).field(),
            "frequency_penalty"
        );
        assert_eq!(
            refuse(|s| s.logit_bias = vec![(1, 101.0)]).field(),
            "logit_bias"
        );
        assert_eq!(
            refuse(|s| s.logit_bias = vec![(10, 1.0)]).to_string(),
            "logit_bias names token 10, but the model's vocabulary has 10 tokens"
        );
    }
}
