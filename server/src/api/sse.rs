//! Responses as server-sent events.
//!
//! Each protocol encodes its own events ([`Encoder`]). A response that cannot be finished ends with the protocol's error
//! event, so that no client takes half an answer for a whole one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sanctum_engine::schedule::TokenLogprob;

use super::echo::EchoPart;
use super::error::ApiError;
use super::generation::{ActiveGeneration, GenerationEnd, GenerationOutput, GenerationUsage};
use super::reply::ReplyPart;

/// Something is sent when nothing else was for so long: proxies and clients close silent connections, and the prefill of a
/// long prompt is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StreamEvent {
    /// `data:` alone.
    Data(String),
    /// `event:` and `data:`.
    Named(&'static str, String),
    /// A comment, which clients skip.
    Comment,
}

/// Turns the outputs of a generation into the events of a protocol.
pub(crate) trait Encoder: Send + 'static {
    /// Before the first token.
    fn opening(&mut self) -> Vec<StreamEvent>;
    /// For a part of the prompt, before the first token.
    fn prompt(&mut self, _choice: usize, _part: EchoPart) -> Vec<StreamEvent> {
        Vec::new()
    }
    /// For a token.
    fn token(
        &mut self,
        choice: usize,
        parts: Vec<ReplyPart>,
        logprob: Option<TokenLogprob>,
    ) -> Vec<StreamEvent>;
    /// After the last token of a choice; after the last choice with the usage of all.
    fn closing(
        &mut self,
        choice: usize,
        parts: Vec<ReplyPart>,
        end: GenerationEnd,
        usage: Option<GenerationUsage>,
    ) -> Vec<StreamEvent>;
    /// Instead of the rest, after an error.
    fn failure(&mut self, error: &ApiError) -> Vec<StreamEvent>;
    /// While nothing happens.
    fn keep_alive(&mut self) -> StreamEvent {
        StreamEvent::Comment
    }
}

/// A response that is being streamed.
struct Streaming<E> {
    /// None once its last event is waiting.
    generation: Option<ActiveGeneration>,
    encoder: E,
    waiting: VecDeque<StreamEvent>,
}

/// Streams a generation. The response owns it: when the client disconnects, both are dropped.
pub(crate) fn stream(generation: ActiveGeneration, mut encoder: impl Encoder) -> Response {
    let state = Streaming {
        waiting: encoder.opening().into(),
        generation: Some(generation),
        encoder,
    };
    let events = stream::unfold(state, |mut state| async move {
        let event = match state.next().await? {
            StreamEvent::Data(data) => Event::default().data(data),
            StreamEvent::Named(name, data) => Event::default().event(name).data(data),
            StreamEvent::Comment => Event::default().comment(""),
        };
        Some((Ok::<_, Infallible>(event), state))
    });
    Sse::new(events).into_response()
}

impl<E: Encoder> Streaming<E> {
    /// The next event; none after the last.
    async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let generation = self.generation.as_mut()?;
            let Ok(output) = tokio::time::timeout(KEEP_ALIVE, generation.next()).await else {
                return Some(self.encoder.keep_alive());
            };
            match output {
                Ok(GenerationOutput::Prompt { choice, part }) => {
                    self.waiting.extend(self.encoder.prompt(choice, part));
                }
                Ok(GenerationOutput::Token {
                    choice,
                    parts,
                    logprob,
                }) => {
                    let events = self.encoder.token(choice, parts, logprob);
                    self.waiting.extend(events);
                }
                Ok(GenerationOutput::Finished {
                    choice,
                    parts,
                    eos,
                    end,
                    usage,
                }) => {
                    if eos.is_some() {
                        self.waiting
                            .extend(self.encoder.token(choice, Vec::new(), eos));
                    }
                    let events = self.encoder.closing(choice, parts, end, usage);
                    self.waiting.extend(events);
                    if usage.is_some() {
                        self.generation = None;
                    }
                }
                Err(error) => {
                    self.waiting.extend(self.encoder.failure(&error));
                    self.generation = None;
                }
            }
        }
    }
}
