//! What rounding activations to eight bits costs, on the built-in model's own evaluation set.
//!
//! Every prompt of a sample is rendered with the model's template and followed by the right answer; the exact and the
//! fast path both see all of it, and their predictions are compared token by token.

use std::fs;
use std::path::Path;

use sanctum_engine::backend::{CpuBackend, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, Source};
use sanctum_engine::text::Text;
use serde_json::{Map, Value};

/// Every so many-th case of the set: enough tokens for the bounds, few enough for a debug build.
const STEP: usize = 9;

fn model(precision: Precision) -> Model<CpuBackend> {
    let host = HostModel::open(&Source::Embedded, |_, _| {}).unwrap();
    let backend = CpuBackend::new(&host.config, 2, precision);
    Model::new(backend, host.config, host.weights)
}

/// Natural logarithms of the probabilities.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    logits
        .iter()
        .map(|&x| f64::from(x) - max - sum.ln())
        .collect()
}

fn likeliest(logs: &[f64]) -> usize {
    (0..logs.len())
        .max_by(|&a, &b| logs[a].total_cmp(&logs[b]))
        .unwrap()
}

#[test]
fn the_fast_path_predicts_what_the_exact_one_does() {
    let exact = model(Precision::Exact);
    let fast = model(Precision::Fast);
    let text = Text::open(&Source::Embedded, &exact.config).unwrap();
    let template = text.template.as_ref().unwrap();
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny/eval/held_out.jsonl");
    let cases = fs::read_to_string(set).unwrap();
    let (mut tokens, mut same, mut divergence) = (0usize, 0usize, 0.0);
    for line in cases.lines().step_by(STEP) {
        let case: Value = serde_json::from_str(line).unwrap();
        let messages = case["messages"].as_array().unwrap();
        let prompt =
            template.render(messages, &[], &Map::new()).unwrap() + case["expect"].as_str().unwrap();
        let ids = text.tokenizer.encode(&prompt).unwrap();
        let vocab = exact.config.vocab;
        let (p, q) = (exact.logits(&[&ids]), fast.logits(&[&ids]));
        for (p, q) in p.chunks(vocab).zip(q.chunks(vocab)) {
            let (p, q) = (log_softmax(p), log_softmax(q));
            tokens += 1;
            same += usize::from(likeliest(&p) == likeliest(&q));
            divergence += p
                .iter()
                .zip(&q)
                .map(|(p, q)| p.exp() * (p - q))
                .sum::<f64>();
        }
    }
    let agreement = same as f64 / tokens as f64;
    let divergence = divergence / tokens as f64;
    println!("{tokens} tokens: top-1 agreement {agreement:.4}, mean KL {divergence:.2e}");
    assert!(tokens > 5_000);
    assert!(agreement >= 0.99, "top-1 agreement {agreement}");
    assert!(divergence <= 1e-3, "mean KL divergence {divergence}");
}
