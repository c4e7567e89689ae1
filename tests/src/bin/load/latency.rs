//! Latencies for a guardian and a client while every core computes.

use std::time::{Duration, Instant};

use sanctum_tests::{Http, Limit, Report, Server};
use serde_json::json;

use crate::crowd::Crowd;

/// Streams at once: as many as the server has slots, and as many again that wait for a slot.
const STREAMS: usize = 32;
/// Tokens of each answer: short enough that streams start and end.
const TOKENS: usize = 32;
/// The interval of requests: shorter, and the requests themselves would be the load.
const EVERY: Duration = Duration::from_millis(4);

/// Requests both pages, each over a separate connection, and single tokens. `beside` is appended to the names of the
/// measurements.
pub(crate) async fn measure(server: &Server, window: Duration, beside: &str, report: &mut Report) {
    eprintln!("latency: {STREAMS} streams for {} s", window.as_secs());
    let crowd = Crowd::of(server, STREAMS, TOKENS);
    server
        .health_shows("a server with no slot free", |health| health["queued"] != 0)
        .await;
    let models = probe(server.http().afresh(), "/v1/models", window);
    let health = probe(server.http().afresh(), "/health", window);
    let tokens = one_token(server.http().afresh(), window);
    let (models, health, tokens) = tokio::join!(models, health, tokens);
    let answered = crowd.answered();
    crowd.leave(server).await;
    let name = |what: &str| format!("{what}{beside}");
    report.add(&name("responses meanwhile"), answered as f64, "", None);
    report.add(&name("one token p50"), at(&tokens, 0.50), "ms", None);
    report.add(&name("one token max"), at(&tokens, 1.0), "ms", None);
    for (path, times) in [("/v1/models", models), ("/health", health)] {
        report.add(&name(&format!("{path} p50")), at(&times, 0.50), "ms", None);
        report.add(
            &name(&format!("{path} p99")),
            at(&times, 0.99),
            "ms",
            Some(Limit::Below(5.0)),
        );
        report.add(&name(&format!("{path} max")), at(&times, 1.0), "ms", None);
    }
}

/// The times of chat requests for one token, sent one after the other.
async fn one_token(http: Http, window: Duration) -> Vec<f64> {
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 1 });
    let end = Instant::now() + window;
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        let answer = http.post("/v1/chat/completions", &body).await;
        times.push(1e3 * began.elapsed().as_secs_f64());
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    times.sort_by(f64::total_cmp);
    times
}

/// The time of each response in milliseconds, sorted.
async fn probe(http: Http, path: &str, window: Duration) -> Vec<f64> {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let end = Instant::now() + window;
    let mut times = Vec::new();
    while Instant::now() < end {
        ticks.tick().await;
        let began = Instant::now();
        let answer = http.get(path).await;
        times.push(1e3 * began.elapsed().as_secs_f64());
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    times.sort_by(f64::total_cmp);
    times
}

/// The percentile at `share`.
fn at(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
