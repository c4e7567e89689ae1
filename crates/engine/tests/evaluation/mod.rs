//! The built-in model's evaluation set, and how near two sets of logits over it are.
//!
//! Every prompt is rendered with the model's template and followed by the right answer, and a model sees all of it at
//! once: it would give the answer exactly if every token of it is the argmax after those before it.

use std::fs;
use std::path::Path;

use sanctum_engine::text::Text;
use serde_json::{Map, Value};

/// A question with its answer.
pub(crate) struct Case {
    /// Prompt, answer and the end of the turn.
    pub ids: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
}

/// Every `step`-th case of the set.
pub(crate) fn cases(text: &Text, step: usize) -> Vec<Case> {
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny/eval/held_out.jsonl");
    let template = text.template.as_ref().unwrap();
    let one = |line: &str| {
        let case: Value = serde_json::from_str(line).unwrap();
        let messages = case["messages"].as_array().unwrap();
        let prompt = template.render(messages, &[], &Map::new()).unwrap();
        let encode = |part: &str| text.tokenizer.encode(part).unwrap();
        let mut ids = encode(&prompt);
        let prompt = ids.len();
        ids.extend(encode(case["expect"].as_str().unwrap()));
        ids.push(text.eos[0]);
        Case { ids, prompt }
    };
    fs::read_to_string(set)
        .unwrap()
        .lines()
        .step_by(step)
        .map(one)
        .collect()
}

impl Case {
    /// Whether these logits, a row a token, give the answer.
    pub(crate) fn is_right(&self, logits: &[f32]) -> bool {
        let vocab = logits.len() / self.ids.len();
        let rows = logits.chunks(vocab).skip(self.prompt - 1);
        rows.zip(&self.ids[self.prompt..])
            .all(|(row, id)| argmax(row) == *id as usize)
    }
}

/// How near predictions are to those of a reference.
#[derive(Default)]
pub(crate) struct Agreement {
    /// Tokens that were compared.
    pub tokens: usize,
    same: usize,
    divergence: f64,
}

impl Agreement {
    /// Counts the logits of a case, a row a token.
    pub(crate) fn count(&mut self, reference: &[f32], logits: &[f32], vocab: usize) {
        for (p, q) in reference.chunks(vocab).zip(logits.chunks(vocab)) {
            self.tokens += 1;
            self.same += usize::from(argmax(p) == argmax(q));
            let (p, q) = (log_softmax(p), log_softmax(q));
            let terms = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q));
            self.divergence += terms.sum::<f64>();
        }
    }

    /// The share of tokens that are the argmax of both.
    pub(crate) fn top_1(&self) -> f64 {
        self.same as f64 / self.tokens as f64
    }

    /// The mean Kullback-Leibler divergence from the reference, in nats.
    pub(crate) fn mean_divergence(&self) -> f64 {
        self.divergence / self.tokens as f64
    }
}

/// Natural logarithms of the probabilities.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    let log = |&x: &f32| f64::from(x) - max - sum.ln();
    logits.iter().map(log).collect()
}

fn argmax(logits: &[f32]) -> usize {
    let ids = 0..logits.len();
    ids.max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap()
}
