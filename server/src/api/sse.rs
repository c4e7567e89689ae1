//! Responses as server-sent events: `data: {chunk}` lines, then `data: [DONE]`.
//!
//! A response that cannot be finished ends with `data: {"error": …}` and no `[DONE]`, so that no client takes half an
//! answer for a whole one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sanctum_engine::schedule::{TokenLogprob, Usage};

use super::generation::{ActiveGeneration, GenerationEnd, GenerationOutput};
use super::reply::ReplyPart;

/// A comment is sent when nothing else was for so long: proxies and clients close silent connections, and the prefill of a
/// long prompt is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Turns the outputs of a generation into the chunks of a protocol, each the text of a JSON object.
pub(crate) trait Encoder: Send + 'static {
    /// Before the first token.
    fn opening(&mut self) -> Vec<String>;
    /// For a token.
    fn token(&mut self, parts: Vec<ReplyPart>, logprob: Option<TokenLogprob>) -> Vec<String>;
    /// After the last token.
    fn closing(&mut self, parts: Vec<ReplyPart>, end: GenerationEnd, usage: Usage) -> Vec<String>;
}

/// Streams a generation. The response owns it: when the client disconnects, both are dropped.
pub(crate) fn stream(generation: ActiveGeneration, mut encoder: impl Encoder) -> Response {
    let waiting: VecDeque<String> = encoder.opening().into();
    let state = Some((generation, encoder, waiting));
    let events = stream::unfold(state, |state| async move {
        let (generation, encoder, waiting) = state?;
        let (data, state) = next(generation, encoder, waiting).await;
        Some((Ok::<_, Infallible>(Event::default().data(data)), state))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

/// The next event's data, and the state that follows it; none after the last event.
async fn next<E: Encoder>(
    mut generation: ActiveGeneration,
    mut encoder: E,
    mut waiting: VecDeque<String>,
) -> (String, Option<(ActiveGeneration, E, VecDeque<String>)>) {
    loop {
        if let Some(data) = waiting.pop_front() {
            let more = data != DONE;
            return (data, more.then_some((generation, encoder, waiting)));
        }
        match generation.next().await {
            Ok(GenerationOutput::Token { parts, logprob }) => {
                waiting.extend(encoder.token(parts, logprob));
            }
            Ok(GenerationOutput::Finished { parts, end, usage }) => {
                waiting.extend(encoder.closing(parts, end, usage));
                waiting.push_back(DONE.to_owned());
            }
            Err(error) => return (error.body().to_string(), None),
        }
    }
}

const DONE: &str = "[DONE]";
