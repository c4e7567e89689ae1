//! A constraint on one sequence.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::Matcher;
use llguidance::toktrie::TokEnv;

use crate::cancellation::Cancellation;
use crate::spelled::SpelledTag;
use crate::{GrammarError, Mask, Vocabulary};

/// What may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every token.
    All,
    /// Some of them.
    Only(Mask),
}

/// Whether the sequence continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More tokens follow.
    Continue,
    /// The answer is complete: nothing may follow.
    Complete,
}

/// Where a sequence is.
enum ConstraintPhase {
    /// In the reasoning; the last bytes of it.
    Reasoning { tail: Vec<u8> },
    /// Between `</think>` and the answer: so many tokens of line breaks were seen.
    Gap(usize),
    /// In text that is not constrained, until a call begins; the last bytes of it.
    Free { tail: Vec<u8> },
    /// In what the matcher reads.
    Constrained,
    /// At the end.
    Complete,
}

/// Rules in compiled form. A matcher is cloned for each use.
pub(crate) struct Compiled {
    matcher: Mutex<Option<Matcher>>,
    kind: RuleKind,
    /// The place of the rules in the request.
    path: String,
    /// The place of the rules for an answer without calls, where calls are allowed too.
    text_path: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RuleKind {
    /// The matcher reads the whole answer, which has no calls.
    Answer,
    /// The matcher reads the whole answer, which may begin with a call.
    Calls,
    /// The matcher reads what follows `<tool_call>`, up to `</tool_call>`.
    OptionalCalls { parallel: bool },
}

/// The tokens at which a sequence changes from one phase to the next.
pub(crate) struct Marks {
    close_reasoning: Option<u32>,
    pub(crate) open_call: Option<u32>,
    pub(crate) close_call: Option<u32>,
    /// The bytes of the tokens.
    environment: TokEnv,
    /// Tokens of one or two line breaks.
    breaks: Vec<u32>,
    /// Tokens of one or two line breaks and more: the token, and what follows the breaks as tokens.
    begins_answer: Vec<(u32, Vec<u32>)>,
    /// Every token.
    all: Mask,
    /// Everything but the ends of a sequence.
    reasoning: Mask,
    closing: SpelledTag,
    calling: SpelledTag,
}

const CLOSE_REASONING: &[u8] = b"</think>";
const OPEN_CALL: &[u8] = b"<tool_call>";
/// Bytes of a text that are kept to find a tag at its end.
const TAIL: usize = 32;
/// Tokens of line breaks between the reasoning and the answer, at most.
const MAX_GAP: usize = 2;

fn is_break(bytes: &[u8]) -> bool {
    matches!(bytes, b"\n" | b"\n\n")
}

impl Marks {
    pub(crate) fn new(vocabulary: &Vocabulary, environment: TokEnv) -> Self {
        let closing = SpelledTag::new(vocabulary, CLOSE_REASONING, |rest| {
            rest.iter().any(|&byte| byte != b'\n')
        });
        let calling = SpelledTag::new(vocabulary, OPEN_CALL, |rest| !rest.is_empty());
        let all = Mask::new(&vec![u32::MAX; vocabulary.tokens.len().div_ceil(32)]);
        let begins_answer = vocabulary
            .texts(|bytes| bytes.starts_with(b"\n") && !is_break(bytes))
            .into_iter()
            .map(|id| {
                let rest = &vocabulary.tokens[id as usize].bytes[1..];
                let rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                (id, environment.tok_trie().greedy_tokenize(rest))
            })
            .collect();
        Self {
            close_reasoning: vocabulary.added("</think>"),
            open_call: vocabulary.added("<tool_call>"),
            close_call: vocabulary.added("</tool_call>"),
            environment,
            breaks: vocabulary.texts(is_break),
            begins_answer,
            reasoning: all
                .clone()
                .without(&vocabulary.ends)
                .without(&closing.within),
            all,
            closing,
            calling,
        }
    }

    /// Whether a text that begins with this token begins with a call.
    fn opens_call(&self, token: u32) -> bool {
        match self.open_call {
            Some(id) => id == token,
            None => OPEN_CALL.starts_with(self.environment.tok_trie().token(token)),
        }
    }

    /// The tokens that may follow in the reasoning.
    fn in_reasoning(&self, tail: &[u8], may_call: bool) -> Mask {
        let mask = self
            .reasoning
            .clone()
            .without(&self.closing.overshoot(tail));
        match may_call {
            true => mask
                .without(&self.calling.overshoot(tail))
                .without(&self.calling.within),
            false => mask,
        }
    }

    /// The tokens that may follow in text that may go on with a call.
    fn in_text(&self, tail: &[u8]) -> Allowed {
        let overshoot = self.calling.overshoot(tail);
        match overshoot.is_empty() && self.calling.within.is_empty() {
            true => Allowed::All,
            false => Allowed::Only(
                self.all
                    .clone()
                    .without(&overshoot)
                    .without(&self.calling.within),
            ),
        }
    }
}

/// Adds a token's bytes to the end of a text.
fn extend_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend(bytes);
    tail.drain(..tail.len().saturating_sub(TAIL));
}

impl Compiled {
    pub(crate) fn answer(matcher: Option<Matcher>, path: &str) -> Self {
        Self::of(matcher, RuleKind::Answer, path)
    }

    /// The matcher of an answer that begins with a call, or, with a `text_path`, is a text by other rules.
    pub(crate) fn calls(matcher: Matcher, path: &str, text_path: Option<&str>) -> Self {
        Self {
            text_path: text_path.map(str::to_owned),
            ..Self::of(Some(matcher), RuleKind::Calls, path)
        }
    }

    pub(crate) fn optional_calls(matcher: Matcher, parallel: bool, path: &str) -> Self {
        Self::of(Some(matcher), RuleKind::OptionalCalls { parallel }, path)
    }

    fn of(matcher: Option<Matcher>, kind: RuleKind, path: &str) -> Self {
        Self {
            matcher: Mutex::new(matcher.map(Matcher::into_cancellable)),
            kind,
            path: path.to_owned(),
            text_path: None,
        }
    }

    /// The place in the request of what is enforced; `has_called`: whether the answer has begun with a call.
    fn path(&self, has_called: bool) -> &str {
        match &self.text_path {
            Some(path) if !has_called => path,
            _ => &self.path,
        }
    }

    fn matcher(&self) -> Option<Matcher> {
        let matcher = self.matcher.lock().unwrap_or_else(PoisonError::into_inner);
        matcher.as_ref().map(Matcher::deep_clone)
    }
}

/// A constraint at one place of a sequence.
pub struct Constraint {
    compiled: Arc<Compiled>,
    marks: Arc<Marks>,
    phase: ConstraintPhase,
    matcher: Option<Matcher>,
    /// Whether what the matcher reads has begun with a call; none before its first token.
    called: Option<bool>,
    cancellation: Cancellation,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

impl Clone for Constraint {
    /// The same rules at the start of another sequence with the same prompt.
    fn clone(&self) -> Self {
        let thinking = matches!(self.phase, ConstraintPhase::Reasoning { .. });
        Self::new(
            Arc::clone(&self.compiled),
            Arc::clone(&self.marks),
            thinking,
        )
    }
}

impl Constraint {
    pub(crate) fn new(compiled: Arc<Compiled>, marks: Arc<Marks>, thinking: bool) -> Self {
        let mut constraint = Self {
            compiled,
            marks,
            phase: ConstraintPhase::Reasoning { tail: Vec::new() },
            matcher: None,
            called: None,
            cancellation: Cancellation::default(),
        };
        if !thinking {
            constraint.begin_answer();
        }
        constraint
    }

    /// Ends what other threads compute with this constraint. A clone has one of its own.
    pub fn cancellation(&self) -> Cancellation {
        self.cancellation.clone()
    }

    /// The place in the request of what is enforced, for messages.
    pub fn path(&self) -> &str {
        self.compiled.path(self.called == Some(true))
    }

    /// The tokens that may follow.
    ///
    /// # Errors
    /// If a limit of the parser is exceeded, or it was cancelled.
    pub fn allowed(&mut self) -> Result<Allowed, GrammarError> {
        Ok(match &self.phase {
            ConstraintPhase::Free { tail } => self.marks.in_text(tail),
            ConstraintPhase::Reasoning { tail } => {
                let may_call = self.compiled.kind != RuleKind::Answer;
                Allowed::Only(self.marks.in_reasoning(tail, may_call))
            }
            ConstraintPhase::Gap(_) => {
                let mask = self.mask()?.with(&self.marks.breaks);
                Allowed::Only(mask.with(&self.first_tokens()?))
            }
            ConstraintPhase::Constrained => Allowed::Only(self.mask()?),
            ConstraintPhase::Complete => Allowed::Only(Mask::new(&[])),
        })
    }

    /// Advances by the token that was chosen and is not the end of the sequence.
    ///
    /// # Errors
    /// If the token was not allowed.
    pub fn accept(&mut self, token: u32) -> Result<Progress, GrammarError> {
        let marks = Arc::clone(&self.marks);
        match &mut self.phase {
            ConstraintPhase::Complete => return Err(GrammarError::Failed("it is complete".into())),
            ConstraintPhase::Free { tail } => {
                extend_tail(tail, marks.environment.tok_trie().token(token));
                if Some(token) == marks.open_call || tail.ends_with(OPEN_CALL) {
                    self.begin_call();
                }
            }
            ConstraintPhase::Reasoning { tail } => {
                if Some(token) == marks.close_reasoning {
                    self.end_reasoning();
                } else if Some(token) == marks.open_call && self.compiled.kind != RuleKind::Answer {
                    // Qwen sometimes calls without closing its reasoning.
                    self.begin_answer();
                    return self.accept(token);
                } else {
                    extend_tail(tail, marks.environment.tok_trie().token(token));
                    // Spelled in pieces instead of as one token; line breaks may follow in the same token.
                    if tail.trim_ascii_end().ends_with(CLOSE_REASONING) {
                        self.end_reasoning();
                    } else if tail.ends_with(OPEN_CALL) && self.compiled.kind != RuleKind::Answer {
                        self.begin_answer();
                        if let RuleKind::OptionalCalls { .. } = self.compiled.kind {
                            self.begin_call();
                            return Ok(Progress::Continue);
                        }
                        let spelled = marks.environment.tok_trie().greedy_tokenize(OPEN_CALL);
                        let opening = marks.open_call.map_or(spelled, |id| vec![id]);
                        return self.consume(&opening);
                    }
                }
            }
            ConstraintPhase::Gap(seen) if marks.breaks.contains(&token) => {
                *seen += 1;
                if *seen == MAX_GAP {
                    self.phase = ConstraintPhase::Constrained;
                }
            }
            ConstraintPhase::Gap(_) => {
                self.phase = ConstraintPhase::Constrained;
                let begins = marks.begins_answer.iter().find(|(id, _)| *id == token);
                return match begins {
                    // What the rules themselves allow at the start of the answer is read as they do.
                    Some((_, rest)) if !self.accepts(&[token])? => self.consume(rest),
                    _ => self.consume(&[token]),
                };
            }
            ConstraintPhase::Constrained => return self.consume(&[token]),
        }
        Ok(Progress::Continue)
    }

    /// Whether the sequence may end here.
    pub fn may_end(&mut self) -> bool {
        match &self.phase {
            ConstraintPhase::Free { .. } | ConstraintPhase::Complete => true,
            ConstraintPhase::Reasoning { .. } => false,
            ConstraintPhase::Gap(_) | ConstraintPhase::Constrained => self
                .matcher
                .as_mut()
                .is_some_and(|matcher| matcher.is_accepting().unwrap_or(false)),
        }
    }

    fn mask(&mut self) -> Result<Mask, GrammarError> {
        let matcher = self.matcher.as_mut().ok_or_else(no_matcher)?;
        let mask = matcher.compute_mask_or_eos();
        let mask = mask.map_err(|e| failed(self.path(), &e))?;
        Ok(Mask::new(mask.as_slice()))
    }

    /// Tokens that begin with the line breaks behind the reasoning and go on with the start of an answer.
    fn first_tokens(&mut self) -> Result<Vec<u32>, GrammarError> {
        let marks = Arc::clone(&self.marks);
        let mut ids = Vec::new();
        for (id, rest) in &marks.begins_answer {
            if self.accepts(rest)? {
                ids.push(*id);
            }
        }
        Ok(ids)
    }

    /// Whether the matcher would accept all of these tokens.
    fn accepts(&mut self, tokens: &[u32]) -> Result<bool, GrammarError> {
        let matcher = self.matcher.as_mut().ok_or_else(no_matcher)?;
        let valid = matcher.validate_tokens(tokens);
        let valid = valid.map_err(|e| failed(self.path(), &e))?;
        Ok(valid == tokens.len())
    }

    fn consume(&mut self, tokens: &[u32]) -> Result<Progress, GrammarError> {
        if let (None, Some(&first)) = (self.called, tokens.first()) {
            self.called = Some(self.marks.opens_call(first));
        }
        let matcher = self.matcher.as_mut().ok_or_else(no_matcher)?;
        let consumed = matcher.consume_tokens(tokens);
        let is_stopped = matcher.is_stopped();
        consumed.map_err(|e| failed(self.path(), &e))?;
        if !is_stopped {
            return Ok(Progress::Continue);
        }
        if let RuleKind::OptionalCalls { parallel: true } = self.compiled.kind {
            self.phase = ConstraintPhase::Free { tail: Vec::new() };
            self.matcher = None;
            self.cancellation.watch(None);
            return Ok(Progress::Continue);
        }
        self.phase = ConstraintPhase::Complete;
        Ok(Progress::Complete)
    }

    fn end_reasoning(&mut self) {
        self.begin_answer();
        if matches!(self.phase, ConstraintPhase::Constrained) {
            self.phase = ConstraintPhase::Gap(0);
        }
    }

    fn begin_answer(&mut self) {
        match self.compiled.kind {
            RuleKind::OptionalCalls { .. } => {
                self.phase = ConstraintPhase::Free { tail: Vec::new() };
            }
            RuleKind::Answer | RuleKind::Calls => self.begin_call(),
        }
    }

    fn begin_call(&mut self) {
        self.matcher = self.compiled.matcher();
        let handle = self.matcher.as_ref().and_then(Matcher::cancellation_handle);
        self.cancellation.watch(handle);
        self.phase = ConstraintPhase::Constrained;
    }
}

fn no_matcher() -> GrammarError {
    GrammarError::Failed("it has no matcher".into())
}

/// A limit of the parser was exceeded at a token: what the client wrote is too complex.
fn failed(path: &str, error: &anyhow::Error) -> GrammarError {
    match GrammarError::compile(path, &error.to_string()) {
        GrammarError::Refused { reason, .. } => GrammarError::Failed(reason),
        other => other,
    }
}
