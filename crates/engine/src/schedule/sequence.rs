//! One sequence: which tokens the model has not seen, how the next one is chosen, which text its client receives.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use sanctum_grammar::{GrammarError, Progress};
use sanctum_kernels::cpu::Pool;

use crate::sampling::{SampleError, SampledToken, Sampler};
use crate::schedule::masks::{Constrained, MaskStatus, MaskWorkers};
use crate::schedule::prompt_scores::PromptScores;
use crate::schedule::request::{Event, FinishReason, Request, TokenLogprob, Usage};
use crate::text::Text;
use crate::text::stop::StopBuffer;
use crate::text::stream_decoder::StreamDecoder;

/// A sequence that is being generated.
pub(crate) struct Sequence {
    /// The prompt; after a [restart](Sequence::restart) also the tokens that had been chosen by then.
    prompt: Vec<u32>,
    /// How many those are.
    replayed: usize,
    /// Prompt tokens that the model has seen.
    fed: usize,
    /// Those of them that were not computed.
    cached: usize,
    /// The token chosen last, which the model has not seen.
    last: Option<u32>,
    /// All tokens that were chosen, the end-of-sequence token too.
    chosen: Vec<u32>,
    generated: usize,
    max_tokens: usize,
    logprobs: Option<usize>,
    /// Present if the prompt's log probabilities are reported.
    scores: Option<PromptScores>,
    ignore_eos: bool,
    sampler: Sampler,
    constraint: Constrained,
    /// The logits of the last pass, while it is not known which tokens may follow. Admission counts them for every request
    /// with a constraint.
    held: Option<Vec<f32>>,
    decoder: StreamDecoder,
    stops: StopBuffer,
}

/// The result of a pass for a sequence that has no pending tokens left.
pub(crate) enum PassResult<'a> {
    /// Logits `[vocab]`, which sampling overwrites.
    Logits(&'a mut [f32]),
    /// The argmax, for a [greedy](Sequence::is_greedy) sequence; none if the logits are not finite.
    Greedy(Option<u32>),
}

/// What follows from a chosen token.
pub(crate) enum SequenceProgress {
    /// The sequence continues.
    Continue(Event),
    /// It is not known yet which tokens may follow: the sequence holds the logits.
    Late,
    /// The logits are not finite, and may be those of a damaged prefix that it reused: it is to be [restarted](Sequence::restart).
    Restart,
    /// The sequence is complete.
    End(Vec<Event>),
}

impl Sequence {
    pub(crate) fn new(request: Request, text: &Text) -> Self {
        let scores = request.logprobs.filter(|_| request.score_prompt);
        Self {
            replayed: 0,
            fed: 0,
            cached: 0,
            last: None,
            chosen: Vec::new(),
            generated: 0,
            max_tokens: request.max_tokens,
            logprobs: request.logprobs,
            scores: scores.map(PromptScores::new),
            ignore_eos: request.ignore_eos,
            sampler: Sampler::new(request.sampling, &request.prompt),
            constraint: Constrained::new(request.constraint),
            held: None,
            decoder: StreamDecoder::new(Arc::clone(&text.tokenizer), true),
            stops: StopBuffer::new(request.stop),
            prompt: request.prompt,
        }
    }

    /// Whether the model has not seen the whole prompt.
    pub(crate) fn in_prompt(&self) -> bool {
        self.fed < self.prompt.len()
    }

    /// Tokens that the model has not seen: the rest of the prompt, or the token chosen last.
    pub(crate) fn pending(&self) -> &[u32] {
        match &self.last {
            Some(_) => self.last.as_slice(),
            None => &self.prompt[self.fed..],
        }
    }

    /// Begins behind the first `count` tokens of the prompt, which need not be computed.
    pub(crate) fn skip(&mut self, count: usize) {
        debug_assert!(self.fed == 0 && count < self.prompt.len());
        (self.fed, self.cached) = (count, count);
    }

    /// Begins again at its first token, without reused ones: the model has to see all tokens, those of the answer too.
    pub(crate) fn restart(&mut self) {
        self.prompt.extend_from_slice(&self.chosen[self.replayed..]);
        self.replayed = self.chosen.len();
        (self.fed, self.cached, self.last) = (0, 0, None);
    }

    /// Its prompt, and the tokens of its answer that are computed again.
    pub(crate) fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// Its first `len` tokens, of prompt and answer; none if it does not know so many.
    pub(crate) fn first(&self, len: usize) -> Option<Vec<u32>> {
        let new = &self.chosen[self.replayed..];
        let tokens = self.prompt.iter().chain(new).copied();
        let tokens: Vec<u32> = tokens.take(len).collect();
        (tokens.len() == len).then_some(tokens)
    }

    /// Records that the model has seen `count` more tokens of the prompt.
    pub(crate) fn advance(&mut self, count: usize) {
        self.fed += count;
    }

    /// Whether the logits of all rows of its prompt are wanted.
    pub(crate) fn scores_prompt(&self) -> bool {
        self.scores.is_some()
    }

    /// The places in the prompt of the next `count` rows, as far as their logits are scores of the prompt.
    pub(crate) fn scored(&self, count: usize) -> Range<usize> {
        match self.scores_prompt() && self.in_prompt() {
            true => self.fed..self.fed + count,
            false => 0..0,
        }
    }

    /// Takes the scores of the rows at these places of the prompt from their logits `[places, vocab]`; returns the event
    /// that reports all once the prompt is complete.
    pub(crate) fn score(
        &mut self,
        pool: &Pool,
        places: &Range<usize>,
        logits: &[f32],
    ) -> Option<Event> {
        let scores = self.scores.as_mut()?;
        let next = places.start + 1..self.prompt.len().min(places.end + 1);
        scores.add(pool, &self.prompt[next], logits, places.len());
        (places.end == self.prompt.len()).then(|| Event::Prompt {
            logprobs: scores.take(),
        })
    }

    /// Whether its next token is the argmax of the logits, and it reports no log probabilities.
    pub(crate) fn is_greedy(&self) -> bool {
        self.logprobs.is_none() && self.sampler.is_greedy()
    }

    /// Whether its next token is the last one that `max_tokens` allows.
    pub(crate) fn ends_next(&self) -> bool {
        self.generated + 1 >= self.max_tokens
    }

    /// Whether its next token depends on those before it in a way that the device does not know.
    pub(crate) fn is_constrained(&self) -> bool {
        self.constraint.is_constrained()
    }

    /// Starts to compute which tokens may follow what a pass is given.
    pub(crate) fn prepare_mask(&mut self, workers: &mut MaskWorkers) {
        self.constraint.prepare(workers);
    }

    /// Which tokens may follow, if that is known by `deadline`.
    pub(crate) fn mask(&mut self, deadline: Instant) -> MaskStatus {
        self.constraint.mask(Some(deadline))
    }

    /// Whether the next pass has no row of it, because it is not known which tokens may follow.
    pub(crate) fn waits_for_mask(&self) -> bool {
        self.held.is_some() || self.constraint.is_pending()
    }

    /// Continues a sequence that [waits](Sequence::waits_for_mask), as far as that is possible now. Without events it is
    /// continued by [`Sequence::choose`] with the logits that it [held](Sequence::take_held), or by the next pass.
    pub(crate) fn settle(&mut self, workers: &mut MaskWorkers) -> Vec<Event> {
        self.constraint.prepare(workers);
        match self.constraint.mask(None) {
            MaskStatus::Complete => vec![self.finished(FinishReason::Stop, None)],
            MaskStatus::Failed(error) => vec![refused(error)],
            MaskStatus::All | MaskStatus::Only(_) if self.generated >= self.max_tokens => {
                vec![self.finished(FinishReason::Length, None)]
            }
            MaskStatus::All | MaskStatus::Only(_) | MaskStatus::Late => Vec::new(),
        }
    }

    /// The logits that it holds, once it is known which tokens may follow.
    pub(crate) fn take_held(&mut self) -> Option<Vec<f32>> {
        match self.constraint.is_pending() {
            true => None,
            false => self.held.take(),
        }
    }

    /// Chooses the next token from the result of a pass.
    pub(crate) fn choose(&mut self, text: &Text, row: PassResult<'_>) -> SequenceProgress {
        if self.scores.as_ref().is_some_and(PromptScores::is_damaged) {
            let error = SampleError::NotFinite.to_string();
            return SequenceProgress::End(vec![Event::Failed(error)]);
        }
        if self.max_tokens == 0 {
            return SequenceProgress::End(vec![self.finished(FinishReason::Length, None)]);
        }
        let mask = match self.constraint.mask(None) {
            MaskStatus::All => None,
            MaskStatus::Only(mask) => Some(mask),
            MaskStatus::Failed(error) => return SequenceProgress::End(vec![refused(error)]),
            MaskStatus::Complete => {
                return SequenceProgress::End(vec![self.finished(FinishReason::Stop, None)]);
            }
            MaskStatus::Late => {
                let PassResult::Logits(logits) = row else {
                    let error = GrammarError::Failed("its mask was late on the device".into());
                    return SequenceProgress::End(vec![Event::Failed(error.to_string())]);
                };
                self.held = Some(logits.to_vec());
                return SequenceProgress::Late;
            }
        };
        let choice = match row {
            PassResult::Logits(logits) => self.sampler.sample(logits, mask.as_ref(), self.logprobs),
            PassResult::Greedy(id) => id
                .map(|id| SampledToken { id, logprob: None })
                .ok_or(SampleError::NotFinite),
        };
        let choice = match choice {
            Ok(choice) => choice,
            Err(SampleError::NotFinite) if self.cached > 0 => return SequenceProgress::Restart,
            Err(error) => return SequenceProgress::End(vec![Event::Failed(error.to_string())]),
        };
        let id = choice.id;
        self.chosen.push(id);
        let logprob = TokenLogprob::of(id, choice.logprob);
        // A constraint that allows the end where it stands decides over `ignore_eos`.
        if text.eos.contains(&id) && (!self.ignore_eos || mask.is_some()) {
            return SequenceProgress::End(vec![self.finished(FinishReason::Stop, logprob)]);
        }
        let complete = match self.constraint.accept(id) {
            Ok(progress) => progress == Progress::Complete,
            Err(error) => return SequenceProgress::End(vec![refused(error)]),
        };
        self.last = Some(id);
        self.generated += 1;
        let certain = self.decoder.push(text.shown(id));
        let (emit, stopped) = self.stops.push(&certain);
        let token = Event::Token {
            id,
            text: emit,
            logprob,
        };
        if stopped {
            let usage = self.usage();
            let (reason, text) = (FinishReason::Stop, String::new());
            let finished = Event::Finished {
                reason,
                stop: self.stops.stop().map(str::to_owned),
                text,
                eos: None,
                usage,
            };
            SequenceProgress::End(vec![token, finished])
        } else if complete {
            SequenceProgress::End(vec![token, self.finished(FinishReason::Stop, None)])
        } else if self.generated >= self.max_tokens && !self.constraint.is_pending() {
            SequenceProgress::End(vec![token, self.finished(FinishReason::Length, None)])
        } else {
            SequenceProgress::Continue(token)
        }
    }

    /// The closing event, with all text that was held back.
    fn finished(&mut self, reason: FinishReason, eos: Option<TokenLogprob>) -> Event {
        let (mut text, stopped) = self.stops.push(&self.decoder.finish());
        if !stopped {
            text.push_str(&self.stops.finish());
        }
        Event::Finished {
            stop: self.stops.stop().map(str::to_owned),
            reason: if stopped { FinishReason::Stop } else { reason },
            text,
            eos,
            usage: self.usage(),
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt.len() - self.replayed,
            completion_tokens: self.generated,
            cached_tokens: self.cached,
        }
    }
}

/// The end of a sequence whose constraint cannot continue: the request is at fault if the error has a place in it.
fn refused(error: GrammarError) -> Event {
    match error.path() {
        Some(_) => Event::Refused(error),
        None => Event::Failed(error.to_string()),
    }
}
