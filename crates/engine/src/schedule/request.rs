//! Requests and events: the engine's input and output.

use sanctum_grammar::{Constraint, GrammarError};

use crate::prefix::scope::Reuse;
use crate::sampling::Sampling;

/// One sequence to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt's token ids; at least one.
    pub prompt: Vec<u32>,
    /// How many tokens to generate at most; 0: the prompt is computed and nothing is generated.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Text that ends the sequence; it is not part of the output.
    pub stop: Vec<String>,
    /// `Some(k)`: report each token's log probability, and those of the `k` most likely tokens.
    pub logprobs: Option<usize>,
    /// Report the log probabilities of the prompt's tokens as well; has no effect without `logprobs`.
    pub score_prompt: bool,
    /// What the answer's form must be.
    pub constraint: Option<Constraint>,
    /// Generate past end-of-sequence tokens, as benchmarks do.
    pub ignore_eos: bool,
    /// Whether it reuses what others have computed.
    pub reuse: Reuse,
}

impl Request {
    /// Whether the logits of each token of its prompt are wanted: then no part of the prompt may come from a cache.
    pub fn scores_prompt(&self) -> bool {
        self.score_prompt && self.logprobs.is_some()
    }
}

/// What a running sequence reports. Exactly one [`Event::Finished`], [`Event::Refused`] or [`Event::Failed`] ends it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt was computed: the first event of a request that [scores its prompt](Request::scores_prompt).
    Prompt {
        /// Each token of the prompt from the second on: nothing predicts the first.
        logprobs: Vec<TokenLogprob>,
    },
    /// A token was chosen.
    Token {
        /// Its id.
        id: u32,
        /// The text that is final with it. Empty while the text so far may become a stop string or ends inside a
        /// character; whole characters only.
        text: String,
        /// Present when the request asked for log probabilities.
        logprob: Option<TokenLogprob>,
    },
    /// The sequence is complete.
    Finished {
        /// Why.
        reason: FinishReason,
        /// The stop string that ended it, if one did.
        stop: Option<String>,
        /// Text that was held back and is no stop string.
        text: String,
        /// The end-of-sequence token that ended it, if one did and the request asked for log probabilities.
        eos: Option<TokenLogprob>,
        /// Its tokens.
        usage: Usage,
    },
    /// What the request asks of the answer turned out to be too complex, or cannot be continued.
    Refused(GrammarError),
    /// The engine cannot continue this sequence; the text says why and what to do.
    Failed(String),
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-sequence token or a stop string.
    Stop,
    /// `max_tokens`, or the end of the context.
    Length,
}

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated, the end-of-sequence token not included.
    pub completion_tokens: usize,
    /// Tokens of the prompt that were not computed, but reused.
    pub cached_tokens: usize,
}

/// A token's log probability, before temperature and filters: ids and numbers only, since an answer may keep one for each
/// of its tokens until its end.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The chosen token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The most likely tokens with theirs, most likely first.
    pub top: Box<[(u32, f32)]>,
}

impl TokenLogprob {
    /// The token as a sampler reports it; none if it reports no log probability.
    pub(crate) fn of(id: u32, reported: Option<(f32, Vec<(u32, f32)>)>) -> Option<Self> {
        let (logprob, top) = reported?;
        let top = top.into_boxed_slice();
        Some(Self { id, logprob, top })
    }

    /// Bytes that each token of an answer takes while the answer keeps `top` neighbours of each: 224 for 20. The list that
    /// holds them doubles as it grows, and each has an allocation of its own.
    pub const fn bytes(top: usize) -> u64 {
        const ALLOCATION: usize = 16;
        (2 * size_of::<Self>() + ALLOCATION + top * size_of::<(u32, f32)>()) as u64
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("{queued} requests are waiting already; try again in {retry_after_s} s")]
    QueueFull {
        /// Requests that wait.
        queued: usize,
        /// When the queue is likely to have room, in seconds.
        retry_after_s: u64,
    },
    /// The prompt does not fit.
    #[error(
        "the prompt has {prompt} tokens and the context holds {context}; shorten the prompt (one token at least is left for the answer)"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that a sequence can hold, prompt and answer together.
        context: usize,
    },
    /// Memory would not hold it even without other requests.
    #[error(
        "{tokens} tokens would take {needed_mib} MiB of memory and there are {available_mib} MiB, enough for {holds} tokens; shorten the prompt or lower max_tokens"
    )]
    TooMuchMemory {
        /// Tokens of prompt and answer together.
        tokens: usize,
        /// Memory that they would take, in MiB.
        needed_mib: u64,
        /// Memory for sequences, in MiB.
        available_mib: u64,
        /// Tokens that this holds.
        holds: usize,
    },
    /// Another engine of the model needs a part of the memory until it has ended.
    #[error(
        "{tokens} tokens would take {needed_mib} MiB of memory and there are {available_mib} MiB while an adapter is swapped; try again \
         when that is done, or lower max_tokens"
    )]
    MemoryShared {
        /// Tokens of prompt and answer together.
        tokens: usize,
        /// Memory that they would take, in MiB.
        needed_mib: u64,
        /// Memory for sequences until then, in MiB.
        available_mib: u64,
    },
    /// The prompt has no token.
    #[error("the prompt is empty")]
    PromptEmpty,
    /// A token id that the model does not know.
    #[error("token id {id} is outside the model's vocabulary of {vocab} tokens")]
    UnknownToken {
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// The engine is draining.
    #[error("the server is shutting down")]
    Draining,
    /// The engine's thread has ended.
    #[error("the engine has stopped; see the server's log for the reason")]
    Stopped,
}
