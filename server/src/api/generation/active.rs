//! A generation that the engine runs: its outputs, choice by choice, as protocols encode them.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use sanctum_engine::schedule::{Event, FinishReason, KeptMemory, TokenLogprob, Usage};
use sanctum_engine::text::Text;
use sanctum_engine::text::output::OutputEnd;

use super::running::RunningChoice;
use super::waiting::WaitingChoices;
use crate::api::echo::EchoPart;
use crate::api::error::ApiError;
use crate::api::names::Names;
use crate::api::reply::ReplyPart;
use crate::gate::GenerationRecord;
use crate::shutdown::Shutdown;

/// Lists the fields of the request that had no effect.
const IGNORED_FIELDS: HeaderName = HeaderName::from_static("sanctum-ignored-fields");
/// Names in that header, at most.
const MOST_NAMED: usize = 20;

/// How long choices wait before they ask again for a place in a queue that requests of others fill.
const RETRY: Duration = Duration::from_millis(50);

/// A generation in progress, of one or several choices. Dropping it, as the HTTP layer does when the client has
/// disconnected, cancels it.
pub(crate) struct ActiveGeneration {
    model: ModelInfo,
    text: Text,
    choices: Vec<RunningChoice>,
    /// The choices after these, until the engine has room for them.
    waiting: WaitingChoices,
    /// The choice that is polled first next time, so that none is preferred.
    turn: usize,
    usage: GenerationUsage,
    prompt_tokens: usize,
    ignored: Vec<String>,
    /// The client's names of the fields that errors name.
    names: Names,
    shutdown: Shutdown,
    record: GenerationRecord,
}

/// The model that generates.
#[derive(Clone, Debug)]
pub(crate) struct ModelInfo {
    /// The id that requests name it by.
    pub id: String,
    /// Names its weights and its arithmetic.
    pub fingerprint: String,
}

/// What a generation yields.
#[derive(Debug)]
pub(crate) enum GenerationOutput {
    /// A part of the prompt, before the first token, if the request has `echo`.
    Prompt {
        /// Of which choice, from 0.
        choice: usize,
        /// The part.
        part: EchoPart,
    },
    /// One more token.
    Token {
        /// Of which choice, from 0.
        choice: usize,
        /// What became certain with it; often nothing.
        parts: Vec<ReplyPart>,
        /// If it was asked for.
        logprob: Option<TokenLogprob>,
    },
    /// The end of a choice.
    Finished {
        /// Which, from 0.
        choice: usize,
        /// What remained.
        parts: Vec<ReplyPart>,
        /// The end-of-sequence token, if log probabilities of the prompt and the answer were asked for: clients take the
        /// last of them for the answer's.
        eos: Option<TokenLogprob>,
        /// Why it ended.
        end: GenerationEnd,
        /// What all cost, with the last of them.
        usage: Option<GenerationUsage>,
    },
}

/// What a generation has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GenerationUsage {
    /// Tokens in and out.
    pub tokens: Usage,
    /// Of the tokens out, those of the reasoning.
    pub reasoning_tokens: usize,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GenerationEnd {
    /// An end-of-sequence token, or the end of what a constraint allows.
    Stop,
    /// This stop string of the request.
    StopString(String),
    /// The same, after tools were called.
    ToolCalls,
    /// `max_tokens`, or the end of the context.
    Length,
}

impl ActiveGeneration {
    pub(super) fn new(
        model: ModelInfo,
        text: Text,
        (choices, waiting): (Vec<RunningChoice>, WaitingChoices),
        prompt_tokens: usize,
        (ignored, names): (Vec<String>, Names),
        shutdown: Shutdown,
        record: GenerationRecord,
    ) -> Self {
        Self {
            model,
            text,
            choices,
            waiting,
            turn: 0,
            usage: GenerationUsage::default(),
            prompt_tokens,
            ignored,
            names,
            shutdown,
            record,
        }
    }

    /// The model that generates.
    pub(crate) fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// The text of tokens.
    pub(crate) fn text(&self) -> &Text {
        &self.text
    }

    /// Puts the names of fields without effect into a header of the response.
    pub(crate) fn report_ignored(ignored: &[String], response: &mut Response) {
        if ignored.is_empty() {
            return;
        }
        let named: Vec<String> = ignored
            .iter()
            .take(MOST_NAMED)
            .map(|name| header_safe(name))
            .collect();
        if let Ok(value) = HeaderValue::from_str(&named.join(", ")) {
            response.headers_mut().insert(IGNORED_FIELDS, value);
        }
    }

    /// The fields of the request that have no effect, which are counted now.
    pub(crate) fn take_ignored(&mut self) -> Vec<String> {
        self.record.ignored_fields(self.ignored.len());
        std::mem::take(&mut self.ignored)
    }

    /// Tokens of all prompts.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// How many choices there are.
    pub(crate) fn choices(&self) -> usize {
        self.choices.len() + self.waiting.len()
    }

    /// The memory of a choice's log probabilities, to be held as long as they are.
    pub(crate) fn kept(&self, choice: usize) -> KeptMemory {
        self.choices[choice].kept.clone()
    }

    /// The next output of any choice. None follows the last [`GenerationOutput::Finished`] or an error.
    ///
    /// # Errors
    /// If the engine fails, or the server's drain limit has passed.
    pub(crate) async fn next(&mut self) -> Result<GenerationOutput, ApiError> {
        let output = self.next_output().await;
        output.map_err(|error| error.renamed(&self.names))
    }

    async fn next_output(&mut self) -> Result<GenerationOutput, ApiError> {
        self.await_room().await?;
        let mut echoes = self.choices.iter_mut().enumerate();
        let part = echoes.find_map(|(index, choice)| Some((index, choice.next_echo()?)));
        if let Some((choice, part)) = part {
            return Ok(GenerationOutput::Prompt { choice, part });
        }
        let (choices, turn) = (&mut self.choices, self.turn);
        let event = poll_fn(|context| poll_event(choices, turn, context));
        let (choice, event) = tokio::select! {
            biased;
            event = event => event,
            () = self.shutdown.cancelled() => {
                self.record.cancelled();
                return Err(ApiError::shutting_down());
            }
        };
        self.turn = (choice + 1) % self.choices.len();
        let stopped = "the engine has stopped; see the server's log for the reason".to_owned();
        let running = &mut self.choices[choice];
        match event.unwrap_or(Event::Failed(stopped)) {
            Event::Prompt { logprobs } => {
                if let Some(echo) = &mut running.echo {
                    echo.scored(logprobs);
                }
                let part = running.next_echo().unwrap_or_default();
                Ok(GenerationOutput::Prompt { choice, part })
            }
            Event::Token { text, logprob, .. } => {
                self.record.token();
                if running.reply.is_reasoning() {
                    self.usage.reasoning_tokens += 1;
                }
                let parts = running.reply.push(text);
                Ok(GenerationOutput::Token {
                    choice,
                    parts,
                    logprob,
                })
            }
            Event::Finished {
                reason,
                stop,
                text,
                eos,
                usage,
            } => {
                let eos = eos.filter(|_| running.echo.is_some());
                // A stop string may be within a call, whose arguments are not complete then.
                let output_end = match (reason, stop.as_deref()) {
                    (FinishReason::Length, _) => OutputEnd::Length,
                    (FinishReason::Stop, Some(stop)) => OutputEnd::StopString(stop),
                    (FinishReason::Stop, None) => OutputEnd::Stop,
                };
                let is_cut = output_end != OutputEnd::Stop;
                let parts = running.reply.finish(text, output_end);
                let is_call_cut = is_cut && running.reply.is_calling();
                let has_called = running.reply.has_called() && !is_call_cut;
                // Calls count only if the reply was not cut off after them.
                let end = match (reason, stop) {
                    (FinishReason::Length, _) => GenerationEnd::Length,
                    (FinishReason::Stop, _) if has_called => GenerationEnd::ToolCalls,
                    (FinishReason::Stop, Some(stop)) => GenerationEnd::StopString(stop),
                    (FinishReason::Stop, None) => GenerationEnd::Stop,
                };
                running.events = None;
                let sum = &mut self.usage.tokens;
                sum.completion_tokens += usage.completion_tokens;
                if running.counts_prompt {
                    sum.prompt_tokens += usage.prompt_tokens;
                    sum.cached_tokens += usage.cached_tokens;
                }
                self.admit()?;
                let is_last = self.waiting.is_empty() && self.is_idle();
                if is_last {
                    let name = match reason {
                        FinishReason::Stop => "stop",
                        FinishReason::Length => "length",
                    };
                    self.record.finished(name, self.usage.tokens);
                }
                Ok(GenerationOutput::Finished {
                    choice,
                    parts,
                    eos,
                    end,
                    usage: is_last.then_some(self.usage),
                })
            }
            Event::Refused(error) => {
                self.record.failed();
                Err(ApiError::from_grammar(&error))
            }
            Event::Failed(reason) => {
                self.record.failed();
                Err(ApiError::internal(reason))
            }
        }
    }
}

impl ActiveGeneration {
    /// Whether the engine runs no choice.
    fn is_idle(&self) -> bool {
        self.choices.iter().all(|choice| choice.events.is_none())
    }

    /// Submits the choices that the engine has room for now.
    fn admit(&mut self) -> Result<(), ApiError> {
        let admitted = self.waiting.admit(&mut self.choices);
        admitted.inspect_err(|_| self.record.failed())
    }

    /// Waits until the engine has room for a choice, if it runs none and some wait: requests of others have taken the
    /// whole queue.
    async fn await_room(&mut self) -> Result<(), ApiError> {
        while !self.waiting.is_empty() && self.is_idle() {
            self.admit()?;
            if !self.is_idle() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.shutdown.cancelled() => {
                    self.record.cancelled();
                    return Err(ApiError::shutting_down());
                }
            }
        }
        Ok(())
    }
}

/// A name as a header may show it: at most 64 characters that need no escape.
fn header_safe(name: &str) -> String {
    let safe = |c: char| match c.is_ascii_alphanumeric() || "._-[]".contains(c) {
        true => c,
        false => '?',
    };
    name.chars().take(64).map(safe).collect()
}

/// The next event of any choice that has not ended, beginning with choice `turn`.
fn poll_event(
    choices: &mut [RunningChoice],
    turn: usize,
    context: &mut Context<'_>,
) -> Poll<(usize, Option<Event>)> {
    let count = choices.len();
    for index in (0..count).map(|offset| (turn + offset) % count) {
        if let Some(events) = &mut choices[index].events
            && let Poll::Ready(event) = events.poll_next(context)
        {
            return Poll::Ready((index, event));
        }
    }
    Poll::Pending
}
