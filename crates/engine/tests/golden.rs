//! Our logits against independent references: mlx-lm and transformers, both in float32.
//!
//! `tests/golden/README.md` says how the files were made and what each configuration is there to catch.

mod reference;

use std::path::Path;

use reference::{distance, folders, golden};
use sanctum_engine::backend::{CpuBackend, KvMode, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, ModelSource};

fn model(folder: &Path, threads: usize, precision: Precision) -> Model<CpuBackend> {
    let source = ModelSource::Folder(folder.to_owned());
    let host = HostModel::open(&source, |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    let backend = CpuBackend::new(&host.config, threads, precision);
    Model::new(backend, host.config, host.weights)
}

fn agrees(kind: &str, at_least: usize) {
    let folders = folders(kind);
    assert!(folders.len() >= at_least, "{} references", folders.len());
    let mut report = String::new();
    let mut worst: f64 = 0.0;
    for folder in folders {
        let golden = golden(&folder);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let one_shot = model(&folder, 1, Precision::Exact).logits(&[&golden.tokens]);
        let distance = distance(&one_shot, &golden.logits);
        report += &format!(
            "{name}: {} tokens, max |Δ| / σ = {distance:.2e}\n",
            golden.tokens.len()
        );
        worst = worst.max(if distance.is_nan() {
            f64::INFINITY
        } else {
            distance
        });
    }
    println!("{report}");
    assert!(worst <= 1e-3, "{report}");
}

#[test]
fn exact_logits_agree_with_mlx_lm() {
    agrees("mlx", 36);
}

#[test]
fn exact_logits_agree_with_transformers() {
    agrees("hf", 10);
}

/// Cuts `tokens` in many ways and demands the bits of `expected` from each.
fn any_split_gives(model: &Model<CpuBackend>, tokens: &[u32], expected: &[f32], what: &str) {
    let check = |chunks: &[&[u32]]| {
        let lens: Vec<_> = chunks.iter().map(|c| c.len()).collect();
        let got = model.logits(chunks);
        let mut both = got.iter().zip(expected);
        let same = both.all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && got.len() == expected.len(), "{what} {lens:?}");
    };
    check(&[tokens]);
    for size in [1, 3, 7, 64] {
        check(&tokens.chunks(size).collect::<Vec<_>>());
    }
    let middle = tokens.len() / 2;
    for cut in [1, 2, 3, 4, 5, middle, tokens.len() - 1] {
        check(&[&tokens[..cut], &tokens[cut..]]);
    }
}

/// Every way to cut the sequence into two, and some into many, at one and two threads: the same bits.
#[test]
fn any_split_gives_the_bits_of_the_one_shot_result() {
    for folder in folders("mlx").into_iter().chain(folders("hf")) {
        let golden = golden(&folder);
        let tokens = &golden.tokens[..golden.tokens.len().min(150)];
        for precision in [Precision::Exact, Precision::Fast] {
            let expected = model(&folder, 1, precision).logits(&[tokens]);
            let model = model(&folder, 2, precision);
            let what = format!("{} {precision:?}", folder.display());
            any_split_gives(&model, tokens, &expected, &what);
        }
    }
}

/// A row sees its own value packed as later rows do, so packing changes nothing about that.
#[test]
fn any_split_gives_the_bits_of_the_one_shot_result_with_packed_values() {
    let model = |threads, precision, mode| {
        let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
        let backend = CpuBackend::new(&host.config, threads, precision).with_kv_cache(mode);
        Model::new(backend, host.config, host.weights)
    };
    let tokens: Vec<u32> = (0..150).map(|i| (i * 37 + 11) % 1000).collect();
    for precision in [Precision::Exact, Precision::Fast] {
        let plain = model(1, precision, KvMode::Plain).logits(&[&tokens]);
        for mode in [KvMode::V8, KvMode::V4] {
            let expected = model(1, precision, mode).logits(&[&tokens]);
            assert_ne!(expected, plain, "{mode}");
            let what = format!("{precision:?} {mode}");
            any_split_gives(&model(2, precision, mode), &tokens, &expected, &what);
        }
    }
}
