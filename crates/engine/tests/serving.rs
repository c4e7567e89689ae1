//! The engine as the server uses it: the built-in model, requests in, events out.

mod asking;
mod built_in;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use asking::{answer, request};
use built_in::{LIMITS, engine};
use sanctum_engine::backend::{Backend, CpuBackend, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, ModelSource};
use sanctum_engine::schedule::{
    Engine, EngineLimits, EnginePhase, Event, FinishReason, Heartbeat, Request, SubmitError,
    TokenLogprob,
};
use sanctum_engine::text::Text;

#[test]
fn it_answers_and_says_what_it_cost() {
    let engine = engine(LIMITS);
    let request = request(&engine, "What is 2+2? Respond with only the number.", 20);
    let prompt = request.prompt.len();
    let (ids, text, reason, usage) = answer(engine.submit(request).unwrap());
    assert_eq!((text.as_str(), reason), ("4", FinishReason::Stop));
    assert_eq!(usage.prompt_tokens, prompt);
    assert_eq!(usage.completion_tokens, ids.len());
}

#[test]
fn an_answer_does_not_depend_on_who_else_is_served() {
    let engine = engine(LIMITS);
    let questions = [
        "What is 17 + 26?",
        "Count from 3 to 9.",
        "What is the capital of France?",
        "Say hello.",
        "Reverse the word table.",
        "My name is Ada. I like green apples and long walks by the sea. What is my name?",
    ];
    let ask = |question| engine.submit(request(&engine, question, 24)).unwrap();
    let alone: Vec<_> = questions.iter().map(|q| answer(ask(q))).collect();
    for round in 0..3 {
        let order = (0..questions.len()).map(|i| (i * 5 + round) % questions.len());
        let together: Vec<_> = order.map(|i| (i, ask(questions[i]))).collect();
        for (i, generation) in together {
            assert_eq!(answer(generation), alone[i], "{}", questions[i]);
        }
    }
}

#[test]
fn a_stop_string_ends_the_answer_before_itself() {
    let engine = engine(LIMITS);
    let mut request = request(&engine, "Count from 1 to 9.", 60);
    let whole = answer(engine.submit(request.clone()).unwrap()).1;
    let (before, _) = whole.split_once(", 5").expect(&whole);
    request.stop = vec![", 5".into()];
    let (_, text, reason, _) = answer(engine.submit(request).unwrap());
    assert_eq!((text.as_str(), reason), (before, FinishReason::Stop));
}

#[test]
fn a_client_that_leaves_makes_room() {
    let engine = engine(EngineLimits {
        slots: 1,
        queue: 0,
        ..LIMITS
    });
    let mut long = request(&engine, "Count from 1 to 99.", 200);
    long.ignore_eos = true;
    let mut first = engine.submit(long.clone()).unwrap();
    assert!(matches!(first.blocking_next(), Some(Event::Token { .. })));
    let refused = engine.submit(long.clone()).unwrap_err();
    assert!(
        matches!(refused, SubmitError::QueueFull { .. }),
        "{refused}"
    );
    let passes = engine.stats().passes.load(Relaxed);
    drop(first);
    while engine.heartbeat().read().in_flight > 0 {
        std::thread::yield_now();
    }
    assert_eq!(engine.stats().cancelled.load(Relaxed), 1);
    // The pass that ran and at most one more that had begun.
    assert!(engine.stats().passes.load(Relaxed) <= passes + 2);
    long.max_tokens = 3;
    assert_eq!(answer(engine.submit(long).unwrap()).2, FinishReason::Length);
}

#[test]
fn request_of_client_that_does_not_read_is_ended() {
    let engine = engine(EngineLimits {
        context: 2048,
        ..LIMITS
    });
    let mut endless = request(&engine, "Count from 3 to 9.", 1900);
    endless.ignore_eos = true;
    let mut generation = engine.submit(endless).unwrap();
    while engine.heartbeat().read().in_flight + engine.heartbeat().read().queued > 0 {
        std::thread::yield_now();
    }
    let events: Vec<Event> = std::iter::from_fn(|| generation.blocking_next()).collect();
    assert_eq!(events.len(), 1024 + 1);
    let last = events.last();
    assert!(
        matches!(last, Some(Event::Failed(reason)) if reason.contains("1024 tokens unread")),
        "{last:?}"
    );
}

#[test]
fn what_cannot_be_served_is_refused_with_the_numbers() {
    let engine = engine(LIMITS);
    let mut request = request(&engine, "Hello", 5);
    let refuse = |request: &Request| engine.submit(request.clone()).unwrap_err();
    request.prompt = vec![1; 256];
    let (prompt, context) = (256, 256);
    assert_eq!(
        refuse(&request),
        SubmitError::PromptTooLong { prompt, context }
    );
    request.prompt = vec![];
    assert_eq!(refuse(&request), SubmitError::PromptEmpty);
    request.prompt = vec![1, 1_000_000];
    assert!(matches!(
        refuse(&request),
        SubmitError::UnknownToken { id: 1_000_000, .. }
    ));
    request.prompt = vec![1; 250];
    request.max_tokens = usize::MAX;
    request.ignore_eos = true;
    let (ids, _, reason, _) = answer(engine.submit(request.clone()).unwrap());
    assert_eq!((ids.len(), reason), (6, FinishReason::Length));
    engine.drain();
    request.prompt = vec![1];
    assert_eq!(refuse(&request), SubmitError::Draining);
    assert_eq!(engine.heartbeat().read().phase, EnginePhase::Draining);
}

#[test]
fn memory_is_reserved_before_a_sequence_begins() {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let text = Text::open(&ModelSource::Embedded, &host.config).unwrap();
    let backend = CpuBackend::new(&host.config, 2, Precision::Fast);
    let cost = backend.cost(&host.config);
    // Room for one sequence of two pages and a bit.
    let budget = cost.of(2 * cost.page) + cost.per_token;
    let model = Model::new(backend, host.config, host.weights);
    let heartbeat = Arc::new(Heartbeat::new());
    let engine = Engine::start_within(budget, model, text, LIMITS, heartbeat).unwrap();
    let mut long = request(&engine, "Count from 1 to 99.", 3 * cost.page);
    long.ignore_eos = true;
    assert!(matches!(
        engine.submit(long.clone()).unwrap_err(),
        SubmitError::TooMuchMemory { holds, .. } if holds == 2 * cost.page
    ));
    // Slots are free, and yet the second waits until the first has left its memory.
    long.max_tokens = 80;
    let mut first = engine.submit(long.clone()).unwrap();
    let second = engine.submit(long).unwrap();
    assert!(matches!(first.blocking_next(), Some(Event::Token { .. })));
    assert_eq!(engine.heartbeat().read().in_flight, 1);
    assert_eq!(engine.admission().reserved(), cost.of(2 * cost.page));
    assert_eq!(answer(first).2, FinishReason::Length);
    assert_eq!(answer(second).0.len(), 80);
    assert_eq!(engine.admission().reserved(), 0);
}

#[test]
fn request_waits_while_an_unwritten_answer_holds_the_memory_and_the_heartbeat_moves() {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let text = Text::open(&ModelSource::Embedded, &host.config).unwrap();
    let backend = CpuBackend::new(&host.config, 2, Precision::Fast);
    let cost = backend.cost(&host.config);
    // Room for one request of two pages, and not for another beside the log probabilities of its answer.
    let kept_bytes = 80 * TokenLogprob::bytes(0);
    let budget = cost.of(2 * cost.page) + kept_bytes;
    let model = Model::new(backend, host.config, host.weights);
    let heartbeat = Arc::new(Heartbeat::new());
    let engine = Engine::start_within(budget, model, text, LIMITS, heartbeat).unwrap();
    let mut long = request(&engine, "Count from 1 to 99.", 80);
    long.ignore_eos = true;
    long.logprobs = Some(0);
    let first = engine.submit(long.clone()).unwrap();
    let unwritten = first.kept();
    assert_eq!(answer(first).0.len(), 80);
    assert_eq!(engine.admission().reserved(), kept_bytes);
    let second = engine.submit(long).unwrap();
    let begun = engine.heartbeat().read().progress;
    while engine.heartbeat().read().progress < begun + 3 {
        std::thread::yield_now();
    }
    let pulse = engine.heartbeat().read();
    assert_eq!((pulse.in_flight, pulse.queued), (0, 1));
    drop(unwritten);
    assert_eq!(answer(second).0.len(), 80);
    assert_eq!(engine.admission().reserved(), 0);
}
