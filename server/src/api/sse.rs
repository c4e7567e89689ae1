//! Streaming an answer as server-sent events: `data: {chunk}` lines, then `data: [DONE]`.
//!
//! An answer that cannot be finished ends with `data: {"error": …}` and no `[DONE]`, so that no client takes half an
//! answer for a whole one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sanctum_engine::schedule::{FinishReason, TokenLogprob, Usage};

use super::running::{Running, Step};

/// A comment is sent when nothing else was for so long: proxies and clients give up on silent connections, and a long
/// prompt's prefill is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Turns the steps of a generation into the chunks of an endpoint, each the text of a JSON object.
pub trait Chunks: Send + 'static {
    /// Before the first token.
    fn opening(&mut self) -> Vec<String>;
    /// For a token.
    fn token(&mut self, text: &str, logprob: Option<TokenLogprob>) -> Vec<String>;
    /// After the last token.
    fn closing(&mut self, reason: FinishReason, text: &str, usage: Usage) -> Vec<String>;
}

/// Streams a generation. The response owns it: when the client goes, the response is dropped and it is cancelled.
pub fn stream(running: Running, mut chunks: impl Chunks) -> Response {
    let waiting: VecDeque<String> = chunks.opening().into();
    let state = Some((running, chunks, waiting));
    let events = stream::unfold(state, |state| async move {
        let (running, chunks, waiting) = state?;
        let (data, state) = next(running, chunks, waiting).await;
        Some((Ok::<_, Infallible>(Event::default().data(data)), state))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

/// The next event's data, and the state that follows it; none after the last event.
async fn next<C: Chunks>(
    mut running: Running,
    mut chunks: C,
    mut waiting: VecDeque<String>,
) -> (String, Option<(Running, C, VecDeque<String>)>) {
    loop {
        if let Some(data) = waiting.pop_front() {
            let more = data != DONE;
            return (data, more.then_some((running, chunks, waiting)));
        }
        match running.next().await {
            Ok(Step::Token { text, logprob }) => {
                waiting.extend(chunks.token(&text, logprob));
            }
            Ok(Step::Finished {
                reason,
                text,
                usage,
            }) => {
                waiting.extend(chunks.closing(reason, &text, usage));
                waiting.push_back(DONE.to_owned());
            }
            Err(error) => return (error.body().to_string(), None),
        }
    }
}

const DONE: &str = "[DONE]";
