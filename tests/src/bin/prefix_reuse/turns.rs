//! What is asked, and what is measured of it.
//!
//! The time to the first token is the time of an answer of one token: all servers can be asked for that.

use std::time::{Duration, Instant};

use sanctum_tests::{Http, Limit, Report, Server};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::conversation::{chat, message, text};

/// Time to the first token of a second turn, in percent of the time when the conversation is new.
pub(crate) const SECOND_TURN: Limit = Limit::AtMost(5.0);
/// Prompt tokens that are computed for all clients of a shared prompt, over those that must be.
const SHARED_WORK: Limit = Limit::AtMost(1.05);
/// Time of prompts without repetition with reuse, over the time without.
const NO_REPETITION: Limit = Limit::AtMost(1.02);

/// Words of the second question.
const QUESTION: usize = 40;
/// Tokens of the first answer.
const ANSWER: usize = 32;
/// Words of each prompt without repetition.
const UNIQUE: usize = 600;

/// Measures the second turn of conversations, and of ones of the same length that are new: the medians of so many rounds.
/// One round before them is not counted, because a GPU compiles kernels for lengths that it has not seen.
pub(crate) async fn second_turn(
    http: &Http,
    name: &str,
    words: usize,
    rounds: usize,
    limit: Option<Limit>,
    report: &mut Report,
) {
    eprintln!(
        "{name}: the second turn of {rounds} conversations of {words} words, after one not counted"
    );
    let mut warm_times = Vec::new();
    let mut cold_times = Vec::new();
    let mut usage = Value::Null;
    for round in 0..=rounds {
        let seed = |part: usize| 10_000 + 3 * round + part;
        let mut warm = vec![message("user", &text(words, seed(0)))];
        let (_, first) = ask(http, &warm, ANSWER).await;
        let answer = first["choices"][0]["message"]["content"].as_str();
        let answer = answer.unwrap_or_default().to_owned();
        let rest = [
            message("assistant", &answer),
            message("user", &text(QUESTION, seed(1))),
        ];
        warm.extend(rest.clone());
        let (warm, second) = ask(http, &warm, 1).await;
        let mut cold = vec![message("user", &text(words, seed(2)))];
        cold.extend(rest);
        let (cold, _) = ask(http, &cold, 1).await;
        eprintln!("{name}: first token, cold {cold:.0?}, warm {warm:.0?}");
        if round > 0 {
            warm_times.push(warm);
            cold_times.push(cold);
        }
        usage = second;
    }
    let cached = &usage["usage"]["prompt_tokens_details"]["cached_tokens"];
    report.add(
        &format!("{name}: tokens of the second turn"),
        usage["usage"]["prompt_tokens"].as_f64().unwrap_or(0.0),
        "",
        None,
    );
    report.add(
        &format!("{name}: of them reused"),
        cached.as_f64().unwrap_or(0.0),
        "",
        None,
    );
    let [cold, warm] = [cold_times, warm_times].map(|times| 1e3 * median(times));
    report.add(&format!("{name}: first token, cold"), cold, "ms", None);
    report.add(&format!("{name}: first token, warm"), warm, "ms", None);
    let percent = 100.0 * warm / cold;
    report.add(&format!("{name}: warm over cold"), percent, "%", limit);
}

/// Measures how long clients take that share a system prompt and send their requests at once.
pub(crate) async fn shared_prompt(
    http: &Http,
    name: &str,
    words: usize,
    clients: usize,
    report: &mut Report,
) {
    eprintln!("{name}: {clients} clients with a system prompt of {words} words");
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..clients {
        let messages = sharing(words, client);
        let http = http.clone();
        running.spawn(async move { ask(&http, &messages, 1).await });
    }
    running.join_all().await;
    let seconds = begun.elapsed().as_secs_f64();
    report.add(
        &format!("{name}: {clients} clients, one system prompt"),
        seconds,
        "s",
        None,
    );
}

/// The messages of a client: a system prompt that all have, and a question of its own.
fn sharing(words: usize, client: usize) -> [Value; 2] {
    [
        message("system", &text(words, 4)),
        message("user", &text(10, 100 + client)),
    ]
}

/// The same, and how many prompt tokens were computed.
pub(crate) async fn shared_work(
    server: &Server,
    words: usize,
    clients: usize,
    report: &mut Report,
) {
    let computed = async || {
        let metrics = server.metrics().await;
        metrics.sum("sanctum_prompt_tokens_total", &[])
    };
    let mut prompts = Vec::new();
    for client in 0..clients {
        prompts.push(tokens(server.http(), &sharing(words, client)).await);
    }
    let before = computed().await;
    shared_prompt(server.http(), "sanctum", words, clients, report).await;
    let computed = computed().await - before;
    let needed = needed(&prompts) as f64;
    report.add("sanctum: prompt tokens computed", computed, "", None);
    report.add(
        "sanctum: over computing it once",
        computed / needed,
        "",
        Some(SHARED_WORK),
    );
}

/// The tokens that must be computed for these prompts: what all begin with once, and the rest of each.
fn needed(prompts: &[Vec<Value>]) -> usize {
    let common = |other: &Vec<Value>| {
        let pairs = prompts[0].iter().zip(other);
        pairs.take_while(|(a, b)| a == b).count()
    };
    let shared = prompts.iter().map(common).min().unwrap_or(0);
    shared + prompts.iter().map(|one| one.len() - shared).sum::<usize>()
}

/// Measures prompts that share nothing, one server without and one with reuse, in turns.
pub(crate) async fn no_repetition(servers: [&Server; 2], rounds: usize, report: &mut Report) {
    eprintln!("{rounds} prompts of {UNIQUE} words without repetition, without and with reuse");
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        // The first of a round is not always the same one.
        for index in [round % 2, (round + 1) % 2] {
            let prompt = [message("user", &text(UNIQUE, 1000 + round))];
            times[index].push(ask(servers[index].http(), &prompt, 8).await.0);
        }
    }
    let [off, on] = times.map(median);
    report.add("no repetition, without reuse", 1e3 * off, "ms", None);
    report.add("no repetition, with reuse", 1e3 * on, "ms", None);
    report.add(
        "no repetition, with over without",
        on / off,
        "",
        Some(NO_REPETITION),
    );
}

/// The middle one of these times, in seconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// The tokens of a prompt.
async fn tokens(http: &Http, messages: &[Value]) -> Vec<Value> {
    let answer = http.post_and_wait("/tokenize", &chat(messages, 1)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let tokens = answer.json()["tokens"].as_array().cloned();
    tokens.expect("a list of tokens")
}

/// Asks, and gives the time until the whole answer is there, and the answer.
async fn ask(http: &Http, messages: &[Value], tokens: usize) -> (Duration, Value) {
    let begun = Instant::now();
    let answer = http
        .post_and_wait("/v1/chat/completions", &chat(messages, tokens))
        .await;
    let took = begun.elapsed();
    assert_eq!(answer.status, 200, "{}", answer.text);
    (took, answer.json())
}
