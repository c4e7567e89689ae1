//! Log probabilities of prompts, against the logits of each prefix computed alone.

mod asking;

use std::sync::Arc;
use std::time::Duration;

use asking::{answer, request};
use sanctum_engine::backend::{Backend, CpuBackend, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, ModelSource};
use sanctum_engine::schedule::{
    Engine, EngineLimits, Event, FinishReason, Generation, Heartbeat, Request, SubmitError,
    TokenLogprob,
};
use sanctum_engine::text::Text;

const LIMITS: EngineLimits = EngineLimits {
    slots: 4,
    queue: 8,
    prefill_chunk: 16,
    context: 2048,
};
const TEXT: &str =
    "The capital of France is Paris, and two and two are four. Zürich lies beside a lake.";

fn model() -> (Model<CpuBackend>, Text) {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let text = Text::open(&ModelSource::Embedded, &host.config).unwrap();
    let backend = CpuBackend::new(&host.config, 2, Precision::Fast);
    (Model::new(backend, host.config, host.weights), text)
}

fn engine(limits: EngineLimits, memory: u64) -> Engine {
    let (model, text) = model();
    Engine::start_within(memory, model, text, limits, Arc::new(Heartbeat::new())).unwrap()
}

fn scored(engine: &Engine, max_tokens: usize) -> Request {
    Request {
        prompt: engine.text().tokenizer.encode(TEXT).unwrap(),
        logprobs: Some(3),
        score_prompt: true,
        ..request(engine, "", max_tokens)
    }
}

/// The scores, which are the first event.
fn scores(generation: &mut Generation) -> Vec<TokenLogprob> {
    match generation.blocking_next() {
        Some(Event::Prompt { logprobs }) => logprobs,
        other => panic!("{other:?}"),
    }
}

/// `ln softmax` of the last row of a prefix's logits, in double precision.
fn reference(model: &Model<CpuBackend>, prefix: &[u32]) -> Vec<f64> {
    let logits = model.logits(&[prefix]);
    let last = &logits[logits.len() - model.config.vocab..];
    let sum: f64 = last.iter().map(|&logit| f64::from(logit).exp()).sum();
    last.iter()
        .map(|&logit| f64::from(logit) - sum.ln())
        .collect()
}

#[test]
fn prompt_scores_equal_those_of_each_prefix_computed_alone() {
    let (model, _) = model();
    let mut first = None;
    for prefill_chunk in [1, 7, 16, 512] {
        let engine = engine(
            EngineLimits {
                prefill_chunk,
                ..LIMITS
            },
            u64::MAX,
        );
        // Beside other prompts, and another that is scored.
        let others: Vec<_> = ["Count from 3 to 9.", "Say hello."]
            .map(|question| engine.submit(request(&engine, question, 12)).unwrap())
            .into();
        let shorter = Request {
            prompt: scored(&engine, 0).prompt[..9].to_vec(),
            ..scored(&engine, 0)
        };
        let mut shorter = engine.submit(shorter).unwrap();
        let request = scored(&engine, 4);
        let mut generation = engine.submit(request.clone()).unwrap();
        let found = scores(&mut generation);
        assert_eq!(scores(&mut shorter), found[..8]);
        let (ids, ..) = answer(generation);
        others.into_iter().for_each(|other| drop(answer(other)));

        assert_eq!(found.len(), request.prompt.len() - 1);
        assert!(found.len() > 20, "the text is too short for several chunks");
        for (place, score) in found.iter().enumerate() {
            let expected = reference(&model, &request.prompt[..=place]);
            assert_eq!(score.id, request.prompt[place + 1]);
            let close = |id: u32, logprob: f32| {
                let difference = f64::from(logprob) - expected[id as usize];
                assert!(difference.abs() < 1e-5, "{place}: {difference:e}");
            };
            close(score.id, score.logprob);
            let mut sorted: Vec<u32> = (0..expected.len() as u32).collect();
            sorted.sort_by(|&a, &b| expected[b as usize].total_cmp(&expected[a as usize]));
            let top: Vec<u32> = score.top.iter().map(|&(id, _)| id).collect();
            assert_eq!(top, sorted[..3]);
            score
                .top
                .iter()
                .for_each(|&(id, logprob)| close(id, logprob));
        }
        // Bit for bit the same however the prompt is divided, and the answer is that of a request without scores.
        let plain = Request {
            score_prompt: false,
            ..request
        };
        assert_eq!(answer(engine.submit(plain).unwrap()).0, ids);
        assert_eq!(*first.get_or_insert(found.clone()), found);
    }
}

#[test]
fn prompt_score_is_the_logprob_of_the_token_when_it_is_generated() {
    let engine = engine(LIMITS, u64::MAX);
    let request = scored(&engine, 0);
    let found = scores(&mut engine.submit(request.clone()).unwrap());
    for (place, score) in found.iter().enumerate().step_by(5) {
        let mut one = Request {
            prompt: request.prompt[..=place].to_vec(),
            max_tokens: 1,
            score_prompt: false,
            ignore_eos: true,
            ..request.clone()
        };
        // Log probabilities are those before the bias.
        one.sampling.logit_bias = vec![(score.id, 100.0)];
        match engine.submit(one).unwrap().blocking_next() {
            Some(Event::Token { logprob, .. }) => assert_eq!(logprob.as_ref(), Some(score)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn request_for_no_tokens_ends_after_the_prompt() {
    let engine = engine(LIMITS, u64::MAX);
    let mut generation = engine.submit(scored(&engine, 0)).unwrap();
    let count = scores(&mut generation).len();
    let (ids, text, reason, usage) = answer(generation);
    assert_eq!(
        (ids.len(), text.as_str(), reason),
        (0, "", FinishReason::Length)
    );
    assert_eq!(
        (usage.prompt_tokens, usage.completion_tokens),
        (count + 1, 0)
    );
    // The same without scores, and for a prompt of one token, which nothing predicts.
    let plain = Request {
        logprobs: None,
        ..scored(&engine, 0)
    };
    assert!(!plain.scores_prompt());
    assert_eq!(
        answer(engine.submit(plain).unwrap()).2,
        FinishReason::Length
    );
    let one = Request {
        prompt: vec![5],
        ..scored(&engine, 0)
    };
    assert_eq!(scores(&mut engine.submit(one).unwrap()), []);
}

#[test]
fn end_of_sequence_is_reported_with_its_log_probability() {
    let engine = engine(LIMITS, u64::MAX);
    let mut asked = request(&engine, "What is 2+2? Respond with only the number.", 20);
    asked.logprobs = Some(1);
    let mut generation = engine.submit(asked.clone()).unwrap();
    let events = std::iter::from_fn(|| generation.blocking_next());
    let Some(Event::Finished { eos: Some(eos), .. }) = events.last() else {
        panic!("no end-of-sequence token");
    };
    assert!(engine.text().eos.contains(&eos.id));
    // It was the most likely token.
    assert_eq!(*eos.top, [(eos.id, eos.logprob)]);
    asked.max_tokens = 1;
    asked.logprobs = None;
    let mut generation = engine.submit(asked).unwrap();
    let last = std::iter::from_fn(|| generation.blocking_next()).last();
    assert!(
        matches!(last, Some(Event::Finished { eos: None, .. })),
        "{last:?}"
    );
}

#[test]
fn long_prompt_whose_scores_are_not_read_is_finished() {
    let engine = engine(LIMITS, u64::MAX);
    let long = Request {
        prompt: scored(&engine, 0)
            .prompt
            .into_iter()
            .cycle()
            .take(1900)
            .collect(),
        ignore_eos: true,
        ..scored(&engine, 2)
    };
    let mut generation = engine.submit(long).unwrap();
    while engine.heartbeat().read().in_flight + engine.heartbeat().read().queued > 0 {
        std::thread::yield_now();
    }
    assert_eq!(scores(&mut generation).len(), 1899);
    assert_eq!(answer(generation).0.len(), 2);
}

#[test]
fn memory_of_scores_is_reserved_until_the_answer_is_written() {
    let (model, _) = model();
    let cost = model.backend().cost(&model.config);
    let vocab = model.config.vocab as u64;
    let unlimited = engine(LIMITS, u64::MAX);
    let request = scored(&unlimited, 0);
    let prompt = request.prompt.len();
    let kept = prompt as u64 * TokenLogprob::bytes(3);
    // Two copies of the logits of every row.
    let needed = cost.of(prompt) + kept + 2 * 4 * vocab * prompt as u64;
    let refused = engine(LIMITS, needed - 1)
        .submit(request.clone())
        .unwrap_err();
    assert!(
        matches!(refused, SubmitError::TooMuchMemory { holds, .. } if holds < prompt),
        "{refused}"
    );
    let engine = engine(LIMITS, needed);
    let mut generation = engine.submit(request).unwrap();
    let unwritten = generation.kept();
    scores(&mut generation);
    answer(generation);
    assert_eq!(engine.admission().reserved(), kept);
    drop(unwritten);
    engine.admission().wait_for_release(Duration::ZERO);
    assert_eq!(engine.admission().reserved(), 0);
}
