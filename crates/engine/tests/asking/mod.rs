//! Asking a running engine, as the tests of all backends do.

use sanctum_engine::prefix::Reuse;
use sanctum_engine::sampling::Sampling;
use sanctum_engine::schedule::{Engine, Event, FinishReason, Generation, Request, Usage};

/// A greedy request for the answer to a question.
pub(crate) fn request(engine: &Engine, question: &str, max_tokens: usize) -> Request {
    let prompt = format!(
        "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
    Request {
        prompt: engine.text().tokenizer.encode(&prompt).unwrap(),
        max_tokens,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: None,
        score_prompt: false,
        constraint: None,
        ignore_eos: false,
        reuse: Reuse::Off,
    }
}

/// All of an answer: its ids, its text, why it ended, what it cost.
pub(crate) fn answer(mut generation: Generation) -> (Vec<u32>, String, FinishReason, Usage) {
    let (mut ids, mut answer) = (Vec::new(), String::new());
    loop {
        match generation.blocking_next() {
            Some(Event::Token { id, text, .. }) => {
                ids.push(id);
                answer += &text;
            }
            Some(Event::Finished {
                reason,
                text,
                usage,
                ..
            }) => {
                answer += &text;
                assert_eq!(generation.blocking_next(), None, "an event after the last");
                return (ids, answer, reason, usage);
            }
            other => panic!("{other:?}"),
        }
    }
}
