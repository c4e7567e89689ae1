//! Clients that keep a server busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sanctum_tests::{Http, Server};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Tokens of each prompt.
pub(crate) const PROMPT: usize = 16;
/// Tokens of a response that does not end during a measurement.
pub(crate) const ENDLESS: usize = 8_000;

/// Streams that are read as fast as they arrive, each started again when it ends. Dropping this closes them.
pub(crate) struct Crowd {
    streams: JoinSet<()>,
    ended: Arc<AtomicUsize>,
}

impl Crowd {
    /// Starts `count` streams with responses of this many tokens.
    pub(crate) fn of(server: &Server, streams: usize, tokens: usize) -> Self {
        let ended = Arc::new(AtomicUsize::new(0));
        let one = |number| keep_asking(server.http().clone(), number, tokens, ended.clone());
        Self {
            streams: (0..streams).map(one).collect(),
            ended: ended.clone(),
        }
    }

    /// Starts endless streams, and waits until all of them hold a slot and have processed their prompt.
    pub(crate) async fn decoding(server: &Server, streams: usize) -> Self {
        let read =
            |metrics: &sanctum_tests::Metrics| metrics.sum("sanctum_prompt_tokens_total", &[]);
        let before = read(&server.metrics().await);
        let crowd = Self::of(server, streams, ENDLESS);
        let expected = before + (streams * PROMPT) as f64;
        server
            .metrics_show("all prompts to be read", |metrics| {
                read(metrics) >= expected
            })
            .await;
        crowd
    }

    /// The number of completed responses.
    pub(crate) fn answered(&self) -> usize {
        self.ended.load(Relaxed)
    }

    /// Closes all of them and waits until the server has freed their slots.
    pub(crate) async fn leave(mut self, server: &Server) {
        self.streams.shutdown().await;
        idle(server).await;
    }
}

/// Waits until the server has nothing to do.
pub(crate) async fn idle(server: &Server) {
    server
        .health_shows("an idle server", |health| {
            health["in_flight"] == 0 && health["queued"] == 0
        })
        .await;
}

async fn keep_asking(http: Http, number: usize, tokens: usize, ended: Arc<AtomicUsize>) {
    let body = completion(prompt(PROMPT, number), tokens);
    loop {
        http.stream("/v1/completions", &body).await.rest().await;
        ended.fetch_add(1, Relaxed);
    }
}

/// A request for exactly this many tokens.
pub(crate) fn completion(prompt: Vec<usize>, tokens: usize) -> Value {
    json!({
        "prompt": prompt,
        "max_tokens": tokens,
        "ignore_eos": true,
        "temperature": 0,
        "stream": true,
    })
}

/// Token ids that every vocabulary has, in a meaningless order.
pub(crate) fn prompt(tokens: usize, seed: usize) -> Vec<usize> {
    let id = |at: usize| (seed * 7919 + at * 104_729) % 997;
    (0..tokens).map(id).collect()
}
