//! The MLX backend against the same references, and against the cpu backend; on a GPU where there is one.
//!
//! MLX multiplies f32 matrices as TF32 on NVIDIA's GPUs: there, set `MLX_ENABLE_TF32=0`.
#![cfg(feature = "mlx")]

mod asking;
mod evaluation;
mod reference;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use asking::{answer, request};
use evaluation::{Agreement, cases};
use reference::{distance, folders, golden};
use sanctum_engine::backend::{Backend, CpuBackend, KvMode, MlxBackend, MlxDevice, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::random::{self, Shape};
use sanctum_engine::load::{FeedForward, HostModel, Mixer, ModelConfig, ModelSource};
use sanctum_engine::prefix::{PrefixOptions, Reuse, Scope};
use sanctum_engine::schedule::{Engine, EngineLimits, Heartbeat, Request};
use sanctum_engine::text::Text;
use sanctum_grammar::{Format, Rules};
use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, ExpertDims};
use serde_json::{Map, Value};

fn open(source: &ModelSource, precision: Precision, kv_cache: KvMode) -> Model<MlxBackend> {
    let host = HostModel::open(source, |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    let backend = MlxBackend::new(MlxDevice::best(), &host.weights, 1, precision);
    let backend = backend.with_kv_cache(kv_cache);
    Model::new(backend, host.config, host.weights)
}

fn model(folder: &Path, precision: Precision) -> Model<MlxBackend> {
    let source = ModelSource::Folder(folder.to_owned());
    open(&source, precision, KvMode::Plain)
}

#[test]
fn exact_logits_agree_with_the_references() {
    let mut report = String::new();
    let mut worst = 0f64;
    for folder in folders("mlx").into_iter().chain(folders("hf")) {
        println!("{}", folder.display());
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

/// Cuts `tokens` in many ways and demands the logits of one go from each.
///
/// On MLX's CPU device every product adds in one order, so a split changes no bit. A GPU chooses its products by the
/// number of rows: there the results are `near`, in standard deviations of the logits.
fn any_split_gives_the_one_shot_result(
    model: &Model<MlxBackend>,
    tokens: &[u32],
    near: f64,
    what: &str,
) {
    let bits = MlxDevice::best() == MlxDevice::Cpu;
    let expected = model.logits(&[tokens]);
    let check = |chunks: &[&[u32]]| {
        let got = model.logits(chunks);
        let lens: Vec<_> = chunks.iter().map(|c| c.len()).collect();
        assert_eq!(got.len(), expected.len(), "{what} {lens:?}");
        let same = got
            .iter()
            .zip(&expected)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        let distance = distance(&got, &expected);
        assert!(
            same || !bits && distance <= near,
            "{what} {lens:?}: {distance:.1e}"
        );
    };
    for size in [1, 3, 7, 64] {
        check(&tokens.chunks(size).collect::<Vec<_>>());
    }
    for cut in [1, 2, 3, 4, tokens.len() / 2, tokens.len() - 1] {
        check(&[&tokens[..cut], &tokens[cut..]]);
    }
}

#[test]
fn any_split_gives_the_one_shot_result_of_the_references() {
    for folder in folders("mlx").into_iter().chain(folders("hf")) {
        let golden = golden(&folder);
        let tokens = &golden.tokens[..golden.tokens.len().min(80)];
        let model = model(&folder, Precision::Exact);
        any_split_gives_the_one_shot_result(&model, tokens, 1e-3, &folder.display().to_string());
    }
}

#[test]
fn any_split_gives_the_one_shot_result_with_packed_values() {
    let tokens: Vec<u32> = (0..80).map(|i| (i * 37 + 11) % 1000).collect();
    // A value that lies between two codes may become either: one of 255 steps of its group's range, or one of 15.
    for (mode, near) in [(KvMode::V8, 5e-3), (KvMode::V4, 1e-1)] {
        let model = open(&ModelSource::Embedded, Precision::Exact, mode);
        any_split_gives_the_one_shot_result(&model, &tokens, near, &mode.to_string());
    }
}

/// Few rows of a mixture and many are multiplied by different kernels on a GPU. Every expert is chosen, since rounding could change
/// a choice.
#[test]
fn mixture_in_16_bits_is_near_the_one_in_f32() {
    let delta = DeltaDims::new(1, 2, 32, 32).unwrap();
    let config = ModelConfig {
        hidden: 128,
        feed_forward: FeedForward::Experts(ExpertDims::new(8, 8, 64, 64).unwrap()),
        layers: vec![Mixer::Delta, Mixer::Attention, Mixer::Delta],
        vocab: 512,
        attention: AttentionDims::new(2, 1, 32, 8).unwrap(),
        conv: ConvDims::new(delta.qkv_len(), 4).unwrap(),
        delta,
        ..Shape::B35A3.config()
    };
    let weights = || random::weights(&config, &mut |_, _| {});
    let exact = CpuBackend::new(&config, 2, Precision::Exact);
    let exact = Model::new(exact, config.clone(), weights());
    let host = weights();
    let rounded = MlxBackend::new(MlxDevice::best(), &host, 1, Precision::Fast);
    let rounded = Model::new(rounded, config.clone(), host);
    let tokens: Vec<u32> = (0..200).map(|i| (i * 37 + 11) % 512).collect();
    let expected = exact.logits(&[&tokens]);
    let squares =
        |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
    for rows in [1, 7, 40, 200] {
        let chunks: Vec<_> = tokens.chunks(rows).collect();
        let got = rounded.logits(&chunks);
        assert_eq!(got.len(), expected.len());
        let differences = squares(&mut got.iter().zip(&expected).map(|(a, b)| a - b));
        let relative = (differences / squares(&mut expected.iter().copied())).sqrt();
        println!("{rows} rows a pass: {relative:.3}");
        // MLX's CPU device adds up products in 16 bits.
        assert!(relative < 0.2, "{rows} rows a pass: {relative}");
    }
}

/// A model on the cpu backend, f32 and with a plain KV cache unless said otherwise.
fn reference(kv_cache: KvMode) -> Model<CpuBackend> {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let backend = CpuBackend::new(&host.config, 2, Precision::Exact).with_kv_cache(kv_cache);
    Model::new(backend, host.config, host.weights)
}

/// How a model's predictions on the built-in one's evaluation set agree with those of each reference, and how many of
/// the cases the reference and the model get right.
fn agreements<const R: usize>(
    references: [&Model<CpuBackend>; R],
    model: &Model<MlxBackend>,
) -> [(Agreement, [usize; 2]); R] {
    let text = Text::open(&ModelSource::Embedded, &model.config).unwrap();
    let mut all = std::array::from_fn(|_| (Agreement::default(), [0; 2]));
    for case in cases(&text, 90) {
        let q = model.logits(&[&case.ids]);
        for (reference, (agreement, right)) in references.iter().zip(&mut all) {
            let p = reference.logits(&[&case.ids]);
            agreement.count(&p, &q, model.config.vocab);
            right[0] += usize::from(case.is_right(&p));
            right[1] += usize::from(case.is_right(&q));
        }
    }
    assert!(all.iter().all(|(agreement, _)| agreement.tokens > 1_000));
    all
}

/// What the checkpoint's own type costs.
#[test]
fn bf16_predicts_what_f32_does() {
    let rounded = open(&ModelSource::Embedded, Precision::Fast, KvMode::Plain);
    let [(agreement, _)] = agreements([&reference(KvMode::Plain)], &rounded);
    let same = agreement.top_1();
    println!("{} tokens: top-1 agreement {same:.4}", agreement.tokens);
    assert!(same >= 0.99, "top-1 agreement {same}");
}

/// Packed values against packed and against plain ones of the cpu backend. The two round a number that lies between two
/// codes as their own last bits have it, so that the same mode is near, not equal.
#[test]
fn packed_values_predict_what_those_of_the_cpu_backend_do() {
    let plain = reference(KvMode::Plain);
    // The least agreement and the most divergence, beside the same mode and beside plain values.
    let bounds = [
        (KvMode::V8, [(0.999, 1e-6), (0.995, 5e-5)]),
        (KvMode::V4, [(0.999, 1e-5), (0.95, 1e-2)]),
    ];
    for (mode, bounds) in bounds {
        let model = open(&ModelSource::Embedded, Precision::Exact, mode);
        let found = agreements([&reference(mode), &plain], &model);
        let found = [mode, KvMode::Plain].into_iter().zip(found);
        for ((beside, (agreement, right)), (least, most)) in found.zip(bounds) {
            let (top_1, divergence) = (agreement.top_1(), agreement.mean_divergence());
            let what = format!(
                "{mode} beside {beside}, {} tokens: top-1 agreement {top_1:.4}, mean KL {divergence:.2e}, right {right:?}",
                agreement.tokens
            );
            println!("{what}");
            assert!(top_1 >= least && divergence <= most, "{what}");
            assert!(right[1] + 1 >= right[0], "{what}");
        }
    }
}

const LIMITS: EngineLimits = EngineLimits {
    slots: 4,
    queue: 64,
    prefill_chunk: 64,
    context: 512,
};

fn engine(
    model: Model<
        impl Backend<Matrix: Send, Experts: Send, Vector: Send, Slots: Send> + Send + 'static,
    >,
) -> Engine {
    let text = Text::open(&ModelSource::Embedded, &model.config).unwrap();
    Engine::start(model, text, LIMITS, Arc::new(Heartbeat::new())).unwrap()
}

/// An engine that reuses prefixes, and checks each one that it reuses.
fn reusing(kv_cache: KvMode) -> Engine {
    let model = open(&ModelSource::Embedded, Precision::Exact, kv_cache);
    let text = Text::open(&ModelSource::Embedded, &model.config).unwrap();
    let prefix = PrefixOptions {
        check_share: 1.0,
        ..PrefixOptions::default()
    };
    let heartbeat = Arc::new(Heartbeat::new());
    Engine::start_with(1 << 30, prefix, model, text, LIMITS, heartbeat).unwrap()
}

fn on_cpu(precision: Precision, kv_cache: KvMode) -> Engine {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let backend = CpuBackend::new(&host.config, 2, precision).with_kv_cache(kv_cache);
    engine(Model::new(backend, host.config, host.weights))
}

fn on_mlx(precision: Precision, kv_cache: KvMode) -> Engine {
    engine(open(&ModelSource::Embedded, precision, kv_cache))
}

/// The prompts that a server is compared to mlx_lm with, rendered and encoded.
fn prompts(engine: &Engine) -> Vec<Request> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/prompts.jsonl");
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
    let ways = [
        (Precision::Exact, KvMode::Plain),
        (Precision::Fast, KvMode::Plain),
        (Precision::Exact, KvMode::V8),
        (Precision::Exact, KvMode::V4),
    ];
    for (precision, kv_cache) in ways {
        let (cpu, mlx) = (on_cpu(precision, kv_cache), on_mlx(precision, kv_cache));
        let prompts = prompts(&cpu);
        assert_eq!(prompts.len(), 20);
        // All at once: prefill and decode of four sequences share their passes.
        let asked: Vec<_> = prompts
            .iter()
            .map(|p| mlx.submit(p.clone()).unwrap())
            .collect();
        for (prompt, generation) in prompts.into_iter().zip(asked) {
            let expected = answer(cpu.submit(prompt).unwrap());
            assert_eq!(answer(generation), expected, "{precision:?} {kv_cache}");
        }
    }
}

/// Constrained rows take their masks to the device, beside rows that are free.
#[test]
fn constrained_answers_equal_those_of_the_cpu_backend() {
    let rules = |format| Rules {
        answer: Some(format),
        calls: None,
    };
    let formats = [
        Format::Json,
        Format::Regex("[a-z]{3,9}( [0-9]{2})?".into()),
        Format::Choice(vec!["seven".into(), "nine".into(), "forty".into()]),
    ];
    let (cpu, mlx) = (
        on_cpu(Precision::Exact, KvMode::Plain),
        on_mlx(Precision::Exact, KvMode::Plain),
    );
    let ask = |engine: &Engine| -> Vec<_> {
        let prompts = prompts(engine).into_iter().take(12).enumerate();
        let running: Vec<_> = prompts
            .map(|(index, mut request)| {
                request.max_tokens = 24;
                request.constraint = formats.get(index % 4).and_then(|format| {
                    let text = engine.text();
                    text.constrain(&rules(format.clone()), false).unwrap()
                });
                engine.submit(request).unwrap()
            })
            .collect();
        running.into_iter().map(answer).collect()
    };
    assert_eq!(ask(&mlx), ask(&cpu));
}

/// The device is a pass ahead of the host when a client disconnects or a slot is reused: no sequence may get another's token.
#[test]
fn who_leaves_while_the_device_is_ahead_leaves_no_trace() {
    let engine = on_mlx(Precision::Exact, KvMode::Plain);
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

/// Turns of conversations that branch, some at once: their passes run ahead of the host, and several continue one prefix.
#[test]
fn reused_prefixes_give_the_text_of_computed_ones() {
    for kv_cache in [KvMode::Plain, KvMode::V8, KvMode::V4] {
        let (cold, reusing) = (on_mlx(Precision::Exact, kv_cache), reusing(kv_cache));
        let mut history =
            "<|im_start|>system\nYou answer in one word, whatever the question is.<|im_end|>\n"
                .to_owned();
        let mut cached = 0;
        for turn in 0..3 {
            history += &format!(
                "<|im_start|>user\nWhich number follows {turn}, and why not another one?<|im_end|>\n"
            );
            let ends = ["", "<think>\n\n</think>\n\n", "It is"];
            let prompts: Vec<_> = ends
                .iter()
                .map(|end| {
                    let prompt = format!("{history}<|im_start|>assistant\n{end}");
                    Request {
                        prompt: reusing.text().tokenizer.encode(&prompt).unwrap(),
                        reuse: Reuse::Scope(Scope::default()),
                        ..request(&reusing, "", 8)
                    }
                })
                .collect();
            let asked: Vec<_> = prompts
                .iter()
                .map(|prompt| reusing.submit(prompt.clone()).unwrap())
                .collect();
            for (prompt, generation) in prompts.into_iter().zip(asked) {
                let (ids, text, reason, usage) = answer(generation);
                let expected = answer(cold.submit(prompt).unwrap());
                assert_eq!(
                    (ids, text, reason),
                    (expected.0, expected.1, expected.2),
                    "{kv_cache}"
                );
                cached += usage.cached_tokens;
            }
            history += "<|im_start|>assistant\nfour<|im_end|>\n";
        }
        assert!(cached > 100, "{cached}");
        let stats = reusing.stats();
        while stats.prefix_checks.load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(stats.prefix_differences.load(Relaxed), 0, "{kv_cache}");
    }
}
