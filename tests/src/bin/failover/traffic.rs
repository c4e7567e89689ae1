//! Requests at a steady rate through a front, while its first upstream fails.

use std::time::Duration;

use sanctum_tests::{Answer, Http, Server, within};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::fault::UpstreamFault;
use crate::outcome::{ClientOutcome, Outcomes};

const CHAT: &str = "/v1/chat/completions";

/// A request, and when it was sent.
struct Sent {
    begun: Instant,
    took: Duration,
    answer: Option<Answer>,
}

/// Starts the three servers, and sends `rate` requests a second for that time. The fault strikes after a quarter of it.
pub(crate) async fn measure(fault: UpstreamFault, rate: u32, seconds: u32) -> Outcomes {
    let first = fault.first_upstream().await;
    let second = Server::start(["--threads", "1"]).await;
    let second_address = second.http().base().replace("http://", "");
    let upstream = |address: &str| format!("{}=http://{address}", Server::BUILT_IN);
    let upstreams = [
        upstream(&first.address().to_string()),
        upstream(&second_address),
    ];
    let front = upstreams.iter().flat_map(|one| ["--upstream", one]);
    let front = Server::start(front).await;
    let opened = watch_circuit(front.http().afresh());

    let mut sent = JoinSet::new();
    let (before, after) = (rate * seconds / 4, rate * seconds - rate * seconds / 4);
    send(&mut sent, &front, rate, before).await;
    let (first, ()) = tokio::join!(fault.strike(first), send(&mut sent, &front, rate, after));
    let mut all = Vec::new();
    while let Some(request) = within("an outcome", sent.join_next()).await {
        all.push(request.expect("a request does not panic"));
    }
    opened.abort();
    let opened = opened.await.ok().flatten();
    drop(first);
    let outcomes = all.into_iter().map(|request| {
        let was_open = opened.is_some_and(|opened| request.begun >= opened);
        ClientOutcome::of(
            request.answer.as_ref(),
            request.took,
            &second_address,
            was_open,
        )
    });
    outcomes.collect()
}

/// Sends this many requests, each at its time, whether earlier ones have been answered or not.
async fn send(sent: &mut JoinSet<Sent>, front: &Server, rate: u32, count: u32) {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..count {
        ticks.tick().await;
        let http = front.http().clone();
        sent.spawn(async move {
            let begun = Instant::now();
            let answer = http.try_post(CHAT, &question()).await;
            Sent {
                begun,
                took: begun.elapsed(),
                answer,
            }
        });
    }
}

fn question() -> Value {
    json!({
        "model": Server::BUILT_IN,
        "messages": [{ "role": "user", "content": "What is 2+2? Respond with only the number." }],
        "temperature": 0,
        "max_tokens": 1,
    })
}

/// Waits until the front sends nothing to its first upstream any more; returns when that began.
fn watch_circuit(http: Http) -> JoinHandle<Option<Instant>> {
    tokio::spawn(async move {
        loop {
            let health = http.get("/health").await.json();
            let first = &health["fronts"][0]["upstreams"][0];
            if first["circuit"] == "open" {
                let since = Duration::from_secs_f64(first["since_seconds"].as_f64().unwrap_or(0.0));
                return Instant::now().checked_sub(since);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}
