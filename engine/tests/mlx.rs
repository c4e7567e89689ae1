//! The MLX backend against the same references, and against the cpu backend.
#![cfg(feature = "mlx")]

mod reference;

use std::path::Path;

use reference::{distance, folders, golden};
use sanctum_engine::backend::{MlxBackend, MlxDevice, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, Source};

fn open(source: &Source, precision: Precision) -> Model<MlxBackend> {
    let host = HostModel::open(source, |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    let backend = MlxBackend::new(MlxDevice::Cpu, &host.weights, 1, precision);
    Model::new(backend, host.config, host.weights)
}

fn model(folder: &Path, precision: Precision) -> Model<MlxBackend> {
    open(&Source::Folder(folder.to_owned()), precision)
}

#[test]
fn exact_logits_agree_with_the_references() {
    let mut report = String::new();
    let mut worst = 0f64;
    for folder in folders("mlx").into_iter().chain(folders("hf")) {
        let golden = golden(&folder);
        let logits = model(&folder, Precision::Exact).logits(&[&golden.tokens]);
        let distance = distance(&logits, &golden.logits);
        report += &format!(
            "{}: {} tokens, max |Δ| / σ = {distance:.2e}\n",
            folder.display(),
            golden.tokens.len()
        );
        worst = if distance.is_nan() { f64::INFINITY } else { worst.max(distance) };
    }
    println!("{report}");
    assert!(worst <= 1e-3, "{report}");
}
