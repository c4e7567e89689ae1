//! Constrained answers of the built-in model: forms, calls, and their ends.

mod asking;
mod built_in;

use std::sync::Arc;

use asking::{answer, request};
use built_in::{LIMITS, engine};
use sanctum_engine::schedule::{Engine, Event, FinishReason, Heartbeat};
use sanctum_grammar::{CallRules, Constraint, Format, Rules, Tool};
use serde_json::json;

/// Rules for the form of an answer.
fn rules(answer: Format) -> Rules {
    Rules {
        answer: Some(answer),
        calls: None,
    }
}

/// A function that adds two numbers.
fn add(required: bool) -> Rules {
    let parameters = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}, "note": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    });
    Rules {
        answer: None,
        calls: Some(CallRules {
            tools: vec![Tool {
                name: "add".into(),
                parameters: Some(parameters),
                strict: true,
                path: "tools[0].function.parameters".into(),
            }],
            required,
            parallel: false,
            subset: false,
        }),
    }
}

#[test]
fn constrained_answer_has_its_form_at_any_temperature() {
    let engine = engine(LIMITS);
    let mut finished = 0;
    for seed in 0..12 {
        let mut generations = Vec::new();
        for (index, format) in [
            Format::Regex("[a-f]{4}-[0-9]{2}".into()),
            Format::Choice(vec!["forty-two".into(), "seven".into()]),
        ]
        .into_iter()
        .enumerate()
        {
            let mut request = request(&engine, "What is 2+2?", 60);
            request.sampling.temperature = [0.0, 2.0][(seed as usize + index) % 2];
            request.sampling.seed = seed;
            request.sampling.presence_penalty = 1.5;
            request.logprobs = (seed % 3 == 0).then_some(2);
            request.constraint = engine.text().constrain(&rules(format), false).unwrap();
            // A constrained answer ends where its form does.
            request.ignore_eos = seed % 2 == 0;
            generations.push(engine.submit(request).unwrap());
        }
        // Unconstrained sequences in the same passes are as they were.
        let free = engine.submit(request(
            &engine,
            "What is 2+2? Respond with only the number.",
            20,
        ));
        let texts: Vec<_> = generations.into_iter().map(answer).collect();
        assert_eq!(answer(free.unwrap()).1, "4");
        assert!(regex_like(&texts[0].1), "{}", texts[0].1);
        assert!(
            ["forty-two", "seven"].contains(&texts[1].1.as_str()),
            "{}",
            texts[1].1
        );
        assert!(texts.iter().all(|text| text.2 == FinishReason::Stop));
        finished += texts.len();
    }
    assert_eq!(finished, 24);
}

fn regex_like(text: &str) -> bool {
    let (letters, digits) = text.split_once('-').unwrap_or_default();
    letters.len() == 4
        && letters.bytes().all(|byte| (b'a'..=b'f').contains(&byte))
        && digits.len() == 2
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn required_call_is_made_whatever_the_question() {
    let engine = engine(LIMITS);
    for question in [
        "What is 17 + 26?",
        "Say hello.",
        "What is the capital of France?",
    ] {
        let mut request = request(&engine, question, 120);
        request.constraint = engine.text().constrain(&add(true), false).unwrap();
        let (_, text, reason, _) = answer(engine.submit(request).unwrap());
        assert!(
            text.starts_with("<tool_call>\n<function=add>\n<parameter="),
            "{text}"
        );
        if reason == FinishReason::Stop {
            assert!(text.ends_with("</function>\n</tool_call>"), "{text}");
            assert!(
                text.contains("<parameter=a>\n") && text.contains("<parameter=b>\n"),
                "{text}"
            );
        }
    }
}

#[test]
fn constrained_answer_cut_by_its_length_reports_length() {
    let engine = engine(LIMITS);
    let mut request = request(&engine, "Say hello.", 3);
    let format = Format::Regex("[a-f]{40}".into());
    request.constraint = engine.text().constrain(&rules(format), false).unwrap();
    let (ids, _, reason, usage) = answer(engine.submit(request).unwrap());
    assert_eq!(
        (ids.len(), reason, usage.completion_tokens),
        (3, FinishReason::Length, 3)
    );
}

#[test]
fn logits_that_are_held_for_a_late_mask_are_reserved() {
    let model = engine(LIMITS);
    let (text, vocab) = (model.text().clone(), model.vocab());
    // An engine whose sequences take nothing.
    let (engine, inbox) = Engine::wire(text, vocab, LIMITS, Arc::new(Heartbeat::new()));
    let reserved = |constraint: Option<Constraint>| {
        let mut request = request(&engine, "Say hello.", 3);
        request.constraint = constraint;
        let _generation = engine.submit(request).unwrap();
        let mut job = inbox.jobs.recv().unwrap().unwrap();
        assert!(job.memory.begin());
        engine.admission().reserved()
    };
    assert_eq!(reserved(None), 0);
    let format = Format::Regex("[a-f]{4}".into());
    let constraint = engine.text().constrain(&rules(format), false).unwrap();
    assert_eq!(reserved(constraint), 4 * vocab as u64);
}

/// A grammar in which each text has exponentially many derivations, and whose end no model chooses.
fn ambiguous() -> Rules {
    let source = "start: e \"\\u0001\"\ne: e e | e e e | /[a-z ]/";
    rules(Format::Lark(source.into()))
}

#[test]
fn ambiguous_grammar_fails_alone() {
    let engine = engine(LIMITS);
    let hostile = |question| {
        let mut request = request(&engine, question, 200);
        request.constraint = engine.text().constrain(&ambiguous(), false).unwrap();
        engine.submit(request).unwrap()
    };
    let questions = ["Say hello.", "Say goodbye.", "What is a cat?"];
    let hostile: Vec<_> = questions.into_iter().map(hostile).collect();
    // What others ask is answered meanwhile.
    let question = "What is 2+2? Respond with only the number.";
    for _ in 0..3 {
        let plain = engine.submit(request(&engine, question, 20)).unwrap();
        assert_eq!(answer(plain).1, "4");
    }
    for mut generation in hostile {
        let last = loop {
            match generation.blocking_next() {
                Some(Event::Token { .. }) => {}
                last => break last,
            }
        };
        let Some(Event::Refused(error)) = last else {
            panic!("{last:?}")
        };
        assert_eq!(error.path(), Some("guided_grammar"));
        assert_eq!(generation.blocking_next(), None);
    }
}

#[test]
fn ambiguous_grammar_of_a_client_that_left_is_not_computed() {
    let engine = engine(LIMITS);
    for seed in 0..4 {
        let mut request = request(&engine, "Say hello.", 200);
        request.sampling.temperature = 2.0;
        request.sampling.seed = seed;
        request.constraint = engine.text().constrain(&ambiguous(), false).unwrap();
        let mut generation = engine.submit(request).unwrap();
        assert!(matches!(
            generation.blocking_next(),
            Some(Event::Token { .. })
        ));
    }
    // Every slot is free again.
    let question = "What is 2+2? Respond with only the number.";
    for _ in 0..4 {
        let plain = engine.submit(request(&engine, question, 20)).unwrap();
        assert_eq!(answer(plain).1, "4");
    }
}
