//! The prompt as the beginning of its completion: `echo` of `POST /v1/completions`.

use std::sync::Arc;

use sanctum_engine::schedule::TokenLogprob;
use sanctum_engine::text::Text;

use super::body;
use super::error::ApiError;

/// Log probabilities that are passed on at once: those of a long prompt are megabytes of text.
const PIECE: usize = 64;

/// How much of prompts a response may still send back.
#[derive(Debug)]
pub(crate) struct EchoBudget {
    bytes: usize,
}

/// A prompt that is sent back before one of its continuations.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    text: Arc<str>,
    /// Its first token, if log probabilities are asked for. Nothing predicts it.
    first: Option<u32>,
    /// The log probabilities of the other tokens that were not taken yet; none before the engine has them.
    scores: Option<std::vec::IntoIter<TokenLogprob>>,
    begun: bool,
}

/// A part of an echo. Its text is whole in the first part.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EchoPart {
    /// The prompt, or nothing.
    pub text: String,
    /// The prompt's first token.
    pub first: Option<u32>,
    /// Log probabilities of the tokens after it, or after those of the last part.
    pub logprobs: Vec<TokenLogprob>,
}

impl Default for EchoBudget {
    /// As much as a body can have of prompts. With `n` a prompt is sent back several times.
    fn default() -> Self {
        Self {
            bytes: body::LARGEST,
        }
    }
}

impl EchoBudget {
    /// The echo of a prompt of these tokens, `continuations` times. `sent` is the prompt if it was sent as a text.
    ///
    /// # Errors
    /// If all echoes of the response are too long together.
    pub(crate) fn echo(
        &mut self,
        sent: Option<String>,
        tokens: &[u32],
        text: &Text,
        continuations: usize,
        has_logprobs: bool,
    ) -> Result<Echo, ApiError> {
        let most = self.bytes / continuations.max(1);
        let too_long = || {
            let message = format!(
                "the prompts that `echo` sends back, each once for each of the `n` choices, have more than {} bytes; send \
                 fewer prompts, or a smaller `n`",
                body::LARGEST
            );
            ApiError::invalid("echo", message)
        };
        let prompt = match sent {
            Some(sent) => Some(sent).filter(|sent| sent.len() <= most),
            None => decoded(tokens, text, most),
        };
        let prompt = prompt.ok_or_else(too_long)?;
        self.bytes -= prompt.len() * continuations;
        Ok(Echo {
            text: prompt.into(),
            first: tokens.first().copied().filter(|_| has_logprobs),
            scores: (!has_logprobs).then(|| Vec::new().into_iter()),
            begun: false,
        })
    }
}

/// The text of tokens, control tokens included; none if it has more than `most` bytes.
fn decoded(tokens: &[u32], text: &Text, most: usize) -> Option<String> {
    let mut bytes = Vec::new();
    for &id in tokens {
        bytes.extend_from_slice(text.tokenizer.token_bytes(text.shown(id)));
        if bytes.len() > most {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| text.len() <= most)
}

impl Echo {
    /// The engine has the log probabilities of the prompt.
    pub(crate) fn scored(&mut self, logprobs: Vec<TokenLogprob>) {
        self.scores = Some(logprobs.into_iter());
    }

    /// The next part, if there is one now.
    pub(crate) fn next_part(&mut self) -> Option<EchoPart> {
        let scores = self.scores.as_mut()?;
        if self.begun && scores.len() == 0 {
            return None;
        }
        let is_first = !std::mem::replace(&mut self.begun, true);
        Some(EchoPart {
            text: match is_first {
                true => self.text.as_ref().to_owned(),
                false => String::new(),
            },
            first: self.first.filter(|_| is_first),
            logprobs: scores.take(PIECE).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::fixture::tokenizer;

    /// Ids are bytes.
    fn text() -> Text {
        Text::new(tokenizer(), None, Vec::new())
    }

    fn score(id: u32) -> TokenLogprob {
        TokenLogprob {
            id,
            logprob: -0.5,
            top: [].into(),
        }
    }

    #[test]
    fn echo_without_log_probabilities_is_there_at_once() {
        let mut budget = EchoBudget::default();
        let sent = Some("ab".to_owned());
        let mut echo = budget.echo(sent, &[97, 98], &text(), 1, false).unwrap();
        let part = echo.next_part().unwrap();
        assert_eq!((part.text.as_str(), part.first), ("ab", None));
        assert_eq!(echo.next_part(), None);
    }

    #[test]
    fn log_probabilities_of_a_long_prompt_come_in_parts() {
        let tokens = vec![97; 2 * PIECE + 2];
        let mut budget = EchoBudget::default();
        let mut echo = budget.echo(None, &tokens, &text(), 1, true).unwrap();
        assert_eq!(echo.next_part(), None);
        echo.scored(vec![score(97); tokens.len() - 1]);
        let parts: Vec<EchoPart> = std::iter::from_fn(|| echo.next_part()).collect();
        let sizes: Vec<usize> = parts.iter().map(|part| part.logprobs.len()).collect();
        assert_eq!(sizes, [PIECE, PIECE, 1]);
        assert_eq!(parts[0].text, "a".repeat(tokens.len()));
        assert_eq!(parts[0].first, Some(97));
        assert_eq!((parts[1].text.as_str(), parts[1].first), ("", None));
    }

    #[test]
    fn prompt_of_one_token_has_no_log_probability_and_an_echo() {
        let mut echo = EchoBudget::default()
            .echo(None, &[97], &text(), 1, true)
            .unwrap();
        echo.scored(Vec::new());
        let part = echo.next_part().unwrap();
        assert_eq!((part.text.as_str(), part.first), ("a", Some(97)));
        assert_eq!(echo.next_part(), None);
    }

    #[test]
    fn echoes_of_a_response_are_limited_together() {
        let mut budget = EchoBudget { bytes: 10 };
        let mut echo = |tokens: &[u32], times| {
            let echo = budget.echo(None, tokens, &text(), times, false);
            echo.map(drop)
                .map_err(|error| error.param().unwrap().to_owned())
        };
        assert_eq!(echo(&[97, 98], 3), Ok(()));
        assert_eq!(echo(&[97, 98], 3), Err("echo".to_owned()));
        // A byte that is not text is written as three.
        assert_eq!(echo(&[0xff, 0xff], 1), Err("echo".to_owned()));
        assert_eq!(echo(&[97, 98, 99, 100], 1), Ok(()));
        assert_eq!(echo(&[97], 1), Err("echo".to_owned()));
    }
}
