//! The MLX backend against the same references, and against the cpu backend; on a GPU where there is one.
//!
//! MLX multiplies f32 matrices as TF32 on NVIDIA's GPUs: there, set `MLX_ENABLE_TF32=0`.
#![cfg(feature = "mlx")]

mod asking;
mod reference;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use asking::{answer, request};
use reference::{distance, folders, golden};
use sanctum_engine::backend::{Backend, CpuBackend, MlxBackend, MlxDevice, Precision};
use sanctum_engine::engine::{Engine, Limits};
use sanctum_engine::graph::Model;
use sanctum_engine::heartbeat::Heartbeat;
use sanctum_engine::load::{HostModel, Source};
use sanctum_engine::request::Request;
use sanctum_engine::text::Text;
use serde_json::{Map, Value};

fn open(source: &Source, precision: Precision) -> Model<MlxBackend> {
    let host = HostModel::open(source, |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    let backend = MlxBackend::new(MlxDevice::best(), &host.weights, 1, precision);
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
        worst = if distance.is_nan() {
            f64::INFINITY
        } else {
            worst.max(distance)
        };
    }
    println!("{report}");
    assert!(worst <= 1e-3, "{report}");
}

/// On MLX's CPU device every product adds in one order, so a split changes no bit. A GPU chooses its products by the
/// number of rows: there the results are as close as to the references.
#[test]
fn any_split_gives_the_one_shot_result() {
    let bits = MlxDevice::best() == MlxDevice::Cpu;
    for folder in folders("mlx").into_iter().chain(folders("hf")) {
        let golden = golden(&folder);
        let tokens = &golden.tokens[..golden.tokens.len().min(80)];
        let model = model(&folder, Precision::Exact);
        let expected = model.logits(&[tokens]);
        let check = |chunks: &[&[u32]]| {
            let got = model.logits(chunks);
            let lens: Vec<_> = chunks.iter().map(|c| c.len()).collect();
            assert_eq!(got.len(), expected.len(), "{} {lens:?}", folder.display());
            let same = got
                .iter()
                .zip(&expected)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            let close = !bits && distance(&got, &expected) <= 1e-3;
            assert!(same || close, "{} {lens:?}", folder.display());
        };
        for size in [1, 3, 7, 64] {
            check(&tokens.chunks(size).collect::<Vec<_>>());
        }
        for cut in [1, 2, 3, 4, tokens.len() / 2, tokens.len() - 1] {
            check(&[&tokens[..cut], &tokens[cut..]]);
        }
    }
}

/// What the checkpoint's own type costs, on the built-in model's evaluation set.
#[test]
fn bf16_predicts_what_f32_does() {
    let host = HostModel::open(&Source::Embedded, |_, _| {}).unwrap();
    let text = Text::open(&Source::Embedded, &host.config).unwrap();
    let exact = Model::new(
        CpuBackend::new(&host.config, 2, Precision::Exact),
        host.config,
        host.weights,
    );
    let rounded = open(&Source::Embedded, Precision::Fast);
    let template = text.template.as_ref().unwrap();
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny/eval/held_out.jsonl");
    let cases = fs::read_to_string(set).unwrap();
    let (mut tokens, mut same) = (0usize, 0usize);
    for line in cases.lines().step_by(90) {
        let case: Value = serde_json::from_str(line).unwrap();
        let messages = case["messages"].as_array().unwrap();
        let prompt =
            template.render(messages, &[], &Map::new()).unwrap() + case["expect"].as_str().unwrap();
        let ids = text.tokenizer.encode(&prompt).unwrap();
        let vocab = exact.config.vocab;
        let (p, q) = (exact.logits(&[&ids]), rounded.logits(&[&ids]));
        for (p, q) in p.chunks(vocab).zip(q.chunks(vocab)) {
            tokens += 1;
            same += usize::from(likeliest(p) == likeliest(q));
        }
    }
    let agreement = same as f64 / tokens as f64;
    println!("{tokens} tokens: top-1 agreement {agreement:.4}");
    assert!(tokens > 1_000);
    assert!(agreement >= 0.99, "top-1 agreement {agreement}");
}

fn likeliest(logits: &[f32]) -> usize {
    (0..logits.len())
        .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        .unwrap()
}

const LIMITS: Limits = Limits {
    slots: 4,
    queue: 64,
    prefill_chunk: 64,
    context: 512,
};

fn engine(
    model: Model<impl Backend<Matrix: Send, Vector: Send, Slots: Send> + Send + 'static>,
) -> Engine {
    let text = Text::open(&Source::Embedded, &model.config).unwrap();
    Engine::start(model, text, LIMITS, Arc::new(Heartbeat::new())).unwrap()
}

fn on_cpu(precision: Precision) -> Engine {
    let host = HostModel::open(&Source::Embedded, |_, _| {}).unwrap();
    let backend = CpuBackend::new(&host.config, 2, precision);
    engine(Model::new(backend, host.config, host.weights))
}

fn on_mlx(precision: Precision) -> Engine {
    engine(open(&Source::Embedded, precision))
}

/// The prompts that a server is compared to mlx_lm with, rendered and encoded.
fn prompts(engine: &Engine) -> Vec<Request> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/prompts.jsonl");
    let template = engine.text().template.as_ref().unwrap();
    let thinking = Map::from_iter([("enable_thinking".to_owned(), Value::Bool(false))]);
    let one = |line: &str| {
        let prompt: Value = serde_json::from_str(line).unwrap();
        let list = |key: &str| prompt[key].as_array().cloned().unwrap_or_default();
        let rendered = template
            .render(&list("messages"), &list("tools"), &thinking)
            .unwrap();
        Request {
            prompt: engine.text().tokenizer.encode(&rendered).unwrap(),
            ..request(engine, "", 48)
        }
    };
    fs::read_to_string(file).unwrap().lines().map(one).collect()
}

#[test]
fn both_backends_give_the_same_text() {
    for precision in [Precision::Exact, Precision::Fast] {
        let (cpu, mlx) = (on_cpu(precision), on_mlx(precision));
        let prompts = prompts(&cpu);
        assert_eq!(prompts.len(), 20);
        // All at once: prefill and decode of four sequences share their passes.
        let asked: Vec<_> = prompts
            .iter()
            .map(|p| mlx.submit(p.clone()).unwrap())
            .collect();
        for (prompt, generation) in prompts.into_iter().zip(asked) {
            let expected = answer(cpu.submit(prompt).unwrap());
            assert_eq!(answer(generation), expected, "{precision:?}");
        }
    }
}

/// The device is a pass ahead of the host when a client leaves or a slot changes hands: nobody may get another's token.
#[test]
fn who_leaves_while_the_device_is_ahead_leaves_no_trace() {
    let engine = on_mlx(Precision::Exact);
    let prompts = prompts(&engine);
    let alone: Vec<_> = prompts[..4]
        .iter()
        .map(|p| answer(engine.submit(p.clone()).unwrap()))
        .collect();
    for round in 0..12 {
        let stay = round % 4;
        let stays = engine.submit(prompts[stay].clone()).unwrap();
        let leavers: Vec<_> = (0..6)
            .map(|n| {
                let leaver = Request {
                    ignore_eos: true,
                    ..prompts[4 + (round + n) % 16].clone()
                };
                let mut generation = engine.submit(leaver).unwrap();
                (0..n).for_each(|_| drop(generation.blocking_next()));
                generation
            })
            .collect();
        let again = engine.submit(prompts[(stay + 1) % 4].clone()).unwrap();
        drop(leavers);
        assert_eq!(answer(stays), alone[stay], "round {round}");
        assert_eq!(answer(again), alone[(stay + 1) % 4], "round {round}");
    }
}
