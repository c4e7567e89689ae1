//! Prefill and decode of one server in one run, and the effect of a long prompt on running streams.

use std::time::{Duration, Instant};

use sanctum_tests::{Chunks, Limit, Report, Server};
use serde_json::Value;

use crate::crowd::{Crowd, ENDLESS, completion, idle, prompt};

/// Tokens of the long prompt.
const LONG: usize = 2000;
/// Concurrent streams: as many as the server has slots.
const STREAMS: usize = 16;
/// How many times the long prompt is sent.
const TIMES: usize = 3;

/// The reference for other measurements.
pub(crate) struct Speeds {
    /// The time of one pass over a full chunk of a prompt, without other streams.
    chunk: Duration,
}

/// Measures prefill alone, then decoding of all streams together.
pub(crate) async fn measure(
    server: &Server,
    chunk: usize,
    window: Duration,
    report: &mut Report,
) -> Speeds {
    eprintln!("prefill: {TIMES} prompts of {LONG} tokens");
    let mut times = Vec::new();
    for time in 0..TIMES {
        times.push(prefill(server, time).await);
        idle(server).await;
    }
    times.sort();
    let whole = times[TIMES / 2].as_secs_f64();
    let prefill = LONG as f64 / whole;

    eprintln!("decode: {STREAMS} streams for {} s", window.as_secs());
    let crowd = Crowd::decoding(server, STREAMS).await;
    let decode = decode(server, window).await;
    crowd.leave(server).await;

    let chunk = Duration::from_secs_f64(whole * chunk as f64 / LONG as f64);
    report.add("prefill", prefill, "tok/s", None);
    report.add(
        "one chunk of a prompt",
        1e3 * chunk.as_secs_f64(),
        "ms",
        None,
    );
    report.add("decode, 16 streams together", decode, "tok/s", None);
    report.add(
        "decode over prefill",
        decode / prefill,
        "",
        Some(Limit::AtLeast(0.7)),
    );
    Speeds { chunk }
}

/// The longest pause of a stream while a long prompt is processed and the other slots are busy.
pub(crate) async fn pauses(server: &Server, speeds: &Speeds, report: &mut Report) {
    eprintln!(
        "pauses: {TIMES} prompts of {LONG} tokens beside {} streams",
        STREAMS - 1
    );
    let crowd = Crowd::decoding(server, STREAMS - 2).await;
    let mut watched = server
        .http()
        .stream("/v1/completions", &shown(prompt(16, 500), ENDLESS))
        .await;
    watched.next().await.expect("its first token");
    let mut longest = Duration::ZERO;
    for time in 0..TIMES {
        longest = longest.max(longest_pause(&mut watched, prefill(server, 10 + time)).await);
    }
    drop(watched);
    crowd.leave(server).await;
    let pause = longest.as_secs_f64();
    report.add(
        "longest pause beside a long prompt",
        1e3 * pause,
        "ms",
        None,
    );
    let chunks = pause / speeds.chunk.as_secs_f64();
    report.add("that pause in chunks", chunks, "", Some(Limit::AtMost(2.0)));
}

/// Sends a long prompt and waits for its first token.
async fn prefill(server: &Server, seed: usize) -> Duration {
    let body = shown(prompt(LONG, seed), 1);
    let began = Instant::now();
    let mut answer = server.http().stream("/v1/completions", &body).await;
    let first = answer.next().await.expect("its only token");
    answer.rest().await;
    first.at - began
}

/// Tokens a second of all streams together, from the server's own count.
async fn decode(server: &Server, window: Duration) -> f64 {
    let count = async || {
        let metrics = server.metrics().await;
        (
            Instant::now(),
            metrics.sum("sanctum_completion_tokens_total", &[]),
        )
    };
    let (began, before) = count().await;
    tokio::time::sleep(window).await;
    let (ended, after) = count().await;
    (after - before) / (ended - began).as_secs_f64()
}

/// The longest time between two tokens of a stream until `meanwhile` completes.
async fn longest_pause(watched: &mut Chunks, meanwhile: impl Future) -> Duration {
    let mut meanwhile = std::pin::pin!(meanwhile);
    let mut last = watched.next().await.expect("a token").at;
    let mut longest = Duration::ZERO;
    let mut over = false;
    while !over {
        let chunk = tokio::select! {
            chunk = watched.next() => chunk,
            _ = &mut meanwhile => {
                over = true;
                watched.next().await
            }
        };
        let at = chunk.expect("a token").at;
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

/// A completion in which every token produces an event, even one without text.
fn shown(prompt: Vec<usize>, tokens: usize) -> Value {
    let mut body = completion(prompt, tokens);
    body["logprobs"] = 0.into();
    body
}
