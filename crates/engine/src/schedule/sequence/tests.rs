//! Sequences that begin again, and those that fail.

use super::*;
use crate::load::{HostModel, ModelSource};
use crate::prefix::scope::Reuse;
use crate::sampling::Sampling;

const PROMPT: [u32; 3] = [5, 6, 7];

fn text() -> Text {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    Text::open(&ModelSource::Embedded, &host.config).unwrap()
}

fn sequence(text: &Text) -> Sequence {
    let request = Request {
        prompt: PROMPT.to_vec(),
        max_tokens: 8,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        stop: Vec::new(),
        logprobs: None,
        score_prompt: false,
        constraint: None,
        ignore_eos: true,
        reuse: Reuse::default(),
    };
    Sequence::new(request, text)
}

fn damaged() -> [f32; 10] {
    [f32::NAN; 10]
}

#[test]
fn sequence_that_reused_a_prefix_begins_again_once_if_its_logits_are_not_finite() {
    let text = text();
    let mut sequence = sequence(&text);
    sequence.skip(2);
    sequence.advance(1);
    let mut logits = [0.0; 10];
    logits[9] = 1.0;
    let first = sequence.choose(&text, PassResult::Logits(&mut logits));
    assert!(matches!(
        first,
        SequenceProgress::Continue(Event::Token { id: 9, .. })
    ));
    let second = sequence.choose(&text, PassResult::Logits(&mut damaged()));
    assert!(matches!(second, SequenceProgress::Restart));
    sequence.restart();
    assert!(sequence.in_prompt());
    assert_eq!(sequence.pending(), [5, 6, 7, 9]);
    assert_eq!(sequence.first(4), Some(vec![5, 6, 7, 9]));
    sequence.advance(4);
    let third = sequence.choose(&text, PassResult::Greedy(Some(8)));
    assert!(matches!(
        third,
        SequenceProgress::Continue(Event::Token { id: 8, .. })
    ));
    assert_eq!((sequence.pending(), sequence.first(6)), (&[8][..], None));
    assert_eq!(sequence.first(5), Some(vec![5, 6, 7, 9, 8]));
    let usage = Usage {
        prompt_tokens: 3,
        completion_tokens: 2,
        cached_tokens: 0,
    };
    assert_eq!(sequence.usage(), usage);
    let last = sequence.choose(&text, PassResult::Greedy(None));
    let SequenceProgress::End(events) = last else {
        panic!("it continues")
    };
    assert!(matches!(&events[..], [Event::Failed(_)]));
}

#[test]
fn sequence_that_reused_nothing_fails_if_its_logits_are_not_finite() {
    let text = text();
    let mut sequence = sequence(&text);
    sequence.advance(3);
    let progress = sequence.choose(&text, PassResult::Logits(&mut damaged()));
    assert!(matches!(progress, SequenceProgress::End(_)));
}
