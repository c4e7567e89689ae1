//! What rounding costs, on the built-in model's own evaluation set: of activations to eight bits, and of the KV cache's
//! values to eight and to four.

mod evaluation;

use evaluation::{Agreement, cases};
use sanctum_engine::backend::{CpuBackend, KvMode, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, ModelSource};
use sanctum_engine::text::Text;

fn model(precision: Precision, kv_cache: KvMode) -> Model<CpuBackend> {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let backend = CpuBackend::new(&host.config, 2, precision).with_kv_cache(kv_cache);
    Model::new(backend, host.config, host.weights)
}

/// Compares two models over every `step`-th case: enough tokens for the bounds, few enough for a debug build. Gives
/// their agreement and the share of cases that each gets right.
fn compare(models: [&Model<CpuBackend>; 2], step: usize) -> (Agreement, [f64; 2]) {
    let [reference, model] = models;
    let text = Text::open(&ModelSource::Embedded, &reference.config).unwrap();
    let cases = cases(&text, step);
    let mut agreement = Agreement::default();
    let mut right = [0_usize; 2];
    for case in &cases {
        let logits = [reference, model].map(|model| model.logits(&[&case.ids]));
        agreement.count(&logits[0], &logits[1], reference.config.vocab);
        for (right, logits) in right.iter_mut().zip(&logits) {
            *right += usize::from(case.is_right(logits));
        }
    }
    (
        agreement,
        right.map(|right| right as f64 / cases.len() as f64),
    )
}

#[test]
fn the_fast_path_predicts_what_the_exact_one_does() {
    let exact = model(Precision::Exact, KvMode::Plain);
    let fast = model(Precision::Fast, KvMode::Plain);
    let (agreement, right) = compare([&exact, &fast], 9);
    let (same, divergence) = (agreement.top_1(), agreement.mean_divergence());
    println!(
        "{} tokens: top-1 agreement {same:.4}, mean KL {divergence:.2e}, right {right:.4?}",
        agreement.tokens
    );
    assert!(agreement.tokens > 5_000);
    assert!(same >= 0.99, "top-1 agreement {same}");
    assert!(divergence <= 1e-3, "mean KL divergence {divergence}");
    assert!(right[1] >= right[0] - 0.01, "right {right:?}");
}

/// With f32 activations: 8-bit ones would turn every last bit into a difference of their own size.
#[test]
fn packed_values_keep_the_answers() {
    let plain = model(Precision::Exact, KvMode::Plain);
    // The least agreement, and the most divergence.
    for (mode, least, most) in [(KvMode::V8, 0.995, 5e-5), (KvMode::V4, 0.95, 1e-2)] {
        let (agreement, right) = compare([&plain, &model(Precision::Exact, mode)], 18);
        let (same, divergence) = (agreement.top_1(), agreement.mean_divergence());
        println!(
            "{mode}, {} tokens: top-1 agreement {same:.4}, mean KL {divergence:.2e}, right {right:.4?}",
            agreement.tokens
        );
        assert!(agreement.tokens > 5_000);
        assert!(same >= least, "{mode}: top-1 agreement {same}");
        assert!(
            divergence <= most,
            "{mode}: mean KL divergence {divergence}"
        );
        assert!(right[1] >= right[0] - 0.01, "{mode}: right {right:?}");
        // That it is packed at all shows.
        assert!(divergence > 0.0);
    }
}
