//! Concurrent requests: no answer changes, no slot is lost.

use async_openai::types::chat::CreateChatCompletionRequest;
use sanctum_tests::{Http, Server, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::openai::{SUM, ask, client, said};

/// Questions of every length, some sampled, each with the log probabilities of its tokens.
fn questions() -> Vec<Value> {
    let texts = [
        "What is 2+2? Respond with only the number.",
        "What is the capital of Japan?",
        "Count from 5 to 15.",
        "Repeat after me: The quick brown fox can jump over the fence!",
        "Repeat: çà 日本 🚀 ok",
        "Reverse the word lantern.",
        "Who are you?",
        "I have thought about it for a long time, and there is one thing that I would like to know before I go to bed: \
         why is the sky blue, and what would have to happen for it to be green? Answer in your own words.",
    ];
    let question = |(number, text): (usize, &str)| {
        let temperature = if number % 4 == 3 { 1.5 } else { 0.0 };
        json!({
            "messages": [{ "role": "user", "content": text }],
            "temperature": temperature, "seed": number, "logprobs": true, "max_tokens": 24,
        })
    };
    texts
        .into_iter()
        .cycle()
        .take(32)
        .enumerate()
        .map(question)
        .collect()
}

/// The text and its log probabilities, to the last bit.
async fn answer(http: &Http, body: &Value) -> (String, Vec<Value>) {
    let mut body = body.clone();
    body["stream"] = true.into();
    let chunks = http
        .stream("/v1/chat/completions", &body)
        .await
        .rest()
        .await;
    let logprob = |chunk: &sanctum_tests::Chunk| {
        let tokens = chunk.data["choices"][0]["logprobs"]["content"]
            .as_array()
            .cloned();
        tokens
            .into_iter()
            .flatten()
            .map(|token| token["logprob"].clone())
            .collect::<Vec<_>>()
    };
    assert!(chunks.last().unwrap().is_done());
    (
        chunks.iter().map(|chunk| chunk.text()).collect(),
        chunks.iter().flat_map(logprob).collect(),
    )
}

#[tokio::test]
async fn thirty_two_streams_equal_single_requests() {
    let server = Server::start([""; 0]).await;
    let mut alone = Vec::new();
    for question in questions() {
        alone.push(answer(server.http(), &question).await);
    }
    let mut together = JoinSet::new();
    for (number, question) in questions().into_iter().enumerate() {
        let http = server.http().clone();
        together.spawn(async move { (number, answer(&http, &question).await) });
    }
    while let Some(done) = together.join_next().await {
        let (number, answer) = done.unwrap();
        assert_eq!(answer, alone[number], "{}", questions()[number]);
    }
}

#[tokio::test]
async fn threads_and_chunks_do_not_change_answers() {
    let usual = Server::start([""; 0]).await;
    let other = Server::start(["--threads", "1", "--prefill-chunk", "7"]).await;
    for question in questions().iter().take(8) {
        let expected = answer(usual.http(), question).await;
        assert_eq!(answer(other.http(), question).await, expected);
    }
}

#[tokio::test]
async fn disconnected_client_frees_its_slot() {
    let server = Server::start(["--max-slots", "1"]).await;
    let mut leaving = server.stream_of(2000).await;
    leaving.next().await.unwrap();
    let mut waiting = server.stream_of(3).await;
    server
        .health_shows("one at work, one waiting", |health| health["queued"] == 1)
        .await;
    let before = server.metrics().await;
    drop(leaving);

    // The other gets the slot long before the first answer would have ended.
    waiting.next().await.unwrap();
    let after = server.metrics_show("the one that left", |metrics| {
        metrics.sum("sanctum_generations_total", &[("outcome", "cancelled")]) == 1.0
    });
    let passes = |metrics: &sanctum_tests::Metrics| metrics.sum("sanctum_engine_passes_total", &[]);
    let passes = passes(&after.await) - passes(&before);
    assert!(passes < 200.0, "{passes} passes later");
    waiting.rest().await;
    server
        .health_shows("an idle server", |health| health["in_flight"] == 0)
        .await;
}

#[tokio::test]
async fn queued_client_may_disconnect() {
    let server = Server::start(["--max-slots", "1"]).await;
    let mut working = server.stream_of(2000).await;
    working.next().await.unwrap();
    let http = server.http().clone();
    let waiting = tokio::spawn(async move {
        let body = json!({ "messages": [{ "role": "user", "content": SUM }] });
        http.post("/v1/chat/completions", &body).await
    });
    server
        .health_shows("one that waits", |health| health["queued"] == 1)
        .await;
    waiting.abort();
    server
        .health_shows("an empty queue", |health| health["queued"] == 0)
        .await;
    working.next().await.expect("the other stream continues");
}

#[tokio::test]
async fn full_queue_answers_429_with_a_valid_retry_after() {
    let server = Server::start(["--max-slots", "1", "--queue", "1"]).await;
    let mut working = server.stream_of(2000).await;
    working.next().await.unwrap();
    let waiting = server.stream_of(2000).await;
    server
        .health_shows("one that waits", |health| health["queued"] == 1)
        .await;

    let body = json!({ "messages": [{ "role": "user", "content": SUM }] });
    let refused = server.http().post("/v1/chat/completions", &body).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert_eq!(refused.json()["error"]["code"], "queue_full");
    assert!(refused.retry_after().is_some_and(|seconds| seconds >= 1));

    // A client waits for the given time and retries.
    let patient = {
        let client = client(&server);
        tokio::spawn(async move { client.chat().create(ask(SUM)).await })
    };
    server
        .metrics_show("a second refusal", |metrics| {
            metrics.sum("sanctum_http_requests_total", &[("status", "429")]) == 2.0
        })
        .await;
    drop(working);
    drop(waiting);
    let answer = within("its answer", patient).await.unwrap().unwrap();
    assert_eq!(said(&answer), "4");
}

#[tokio::test]
async fn slow_reader_does_not_delay_others() {
    let server = Server::start(["--max-slots", "2"]).await;
    let unread = server.stream_of(2000).await;
    let request = CreateChatCompletionRequest {
        max_completion_tokens: Some(4),
        ..ask(SUM)
    };
    let answer = within("an answer", client(&server).chat().create(request))
        .await
        .unwrap();
    assert_eq!(said(&answer), "4");
    drop(unread);
}
