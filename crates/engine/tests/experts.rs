//! Mixtures of experts: the layouts of checkpoints give the same model, a sequence does not see its neighbours, and what
//! does not fit is refused by name. The references of `golden.rs` have mixtures too.

mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use reference::{distance, folder, folders, golden};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sanctum_engine::backend::{Backend, Batch, CpuBackend, ExpertReads, Precision, SlotId};
use sanctum_engine::graph::Model;
use sanctum_engine::load::random::{self, Shape};
use sanctum_engine::load::weights::{FeedForwardWeights, HostMatrix, HostWeights, Storage};
use sanctum_engine::load::{FeedForward, HostModel, Mixer, ModelConfig, ModelSource};
use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, ExpertDims};
use sanctum_manifest::Bytes;
use serde_json::Value;
use tempfile::TempDir;

const JOINED: &str = "hf/moe-bf16-joined-nested-shards";

/// A tensor of a checkpoint.
#[derive(Clone)]
struct StoredTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// All tensors of a folder, those of all shards together.
fn tensors(folder: &Path) -> BTreeMap<String, StoredTensor> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let is_shard = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("model") && name.ends_with(".safetensors")
    };
    let mut all = BTreeMap::new();
    for path in files.filter(is_shard) {
        let bytes = fs::read(path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let tensor = StoredTensor {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            };
            all.insert(name, tensor);
        }
    }
    all
}

/// A folder of these tensors and the configuration of another one.
fn checkpoint(like: &Path, tensors: &BTreeMap<String, StoredTensor>) -> TempDir {
    let made = TempDir::new().unwrap();
    fs::copy(like.join("config.json"), made.path().join("config.json")).unwrap();
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
        (name, view.unwrap())
    });
    let file = made.path().join("model.safetensors");
    safetensors::serialize_to_file(views, None, &file).unwrap();
    made
}

impl StoredTensor {
    /// The parts `at` of `of` along an axis.
    fn part(&self, axis: usize, at: usize, of: usize) -> Self {
        let outer: usize = self.shape[..axis].iter().product();
        let row = self.bytes.len() / outer;
        let part = row / of;
        let rows = self.bytes.chunks(row);
        let mut shape = self.shape.clone();
        shape[axis] /= of;
        Self {
            dtype: self.dtype,
            shape,
            bytes: rows
                .flat_map(|row| row[at * part..(at + 1) * part].to_vec())
                .collect(),
        }
    }
}

/// A checkpoint whose experts were taken out.
struct SeparatedExperts {
    /// All other tensors.
    others: BTreeMap<String, StoredTensor>,
    /// Gate, up and down projections `[E, …]` by the name of their layer's part.
    experts: Vec<(String, [StoredTensor; 3])>,
}

/// Takes the joined tensors of the experts apart.
fn separated(all: &BTreeMap<String, StoredTensor>) -> SeparatedExperts {
    let mut others = all.clone();
    let mut experts = Vec::new();
    let joined = ".experts.gate_up_proj";
    for at in all.keys().filter_map(|name| name.strip_suffix(joined)) {
        let gate_up = others.remove(&format!("{at}{joined}")).unwrap();
        let down = others.remove(&format!("{at}.experts.down_proj")).unwrap();
        let [gate, up] = [0, 1].map(|part| gate_up.part(1, part, 2));
        experts.push((at.to_owned(), [gate, up, down]));
    }
    assert_eq!(experts.len(), 2);
    SeparatedExperts { others, experts }
}

const PARTS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// The checkpoint with a tensor for each expert.
fn apart(all: &BTreeMap<String, StoredTensor>) -> BTreeMap<String, StoredTensor> {
    let separated = separated(all);
    let mut made = separated.others;
    for (at, matrices) in separated.experts {
        for (part, stacked) in PARTS.iter().zip(matrices) {
            let count = stacked.shape[0];
            for e in 0..count {
                let mut one = stacked.part(0, e, count);
                one.shape.remove(0);
                made.insert(format!("{at}.experts.{e}.{part}.weight"), one);
            }
        }
    }
    made
}

/// The checkpoint in MLX's layout, but for norms and convolutions, which tell the one from the other.
fn stacked(all: &BTreeMap<String, StoredTensor>) -> BTreeMap<String, StoredTensor> {
    let separated = separated(all);
    let mut made = separated.others;
    for (at, matrices) in separated.experts {
        for (part, stacked) in PARTS.iter().zip(matrices) {
            made.insert(format!("{at}.switch_mlp.{part}.weight"), stacked);
        }
    }
    made
}

fn open(folder: &Path) -> Result<HostModel, String> {
    let opened = HostModel::open(&ModelSource::Folder(folder.to_owned()), |_, _| {});
    opened.map_err(|error| error.to_string())
}

fn model(folder: &Path, threads: usize, precision: Precision) -> Model<CpuBackend> {
    let host = open(folder).unwrap_or_else(|error| panic!("{error}"));
    let backend = CpuBackend::new(&host.config, threads, precision);
    Model::new(backend, host.config, host.weights)
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// The references that are mixtures.
fn mixtures() -> Vec<PathBuf> {
    let is_mixture = |folder: &PathBuf| {
        let name = folder.file_name().unwrap().to_string_lossy();
        name.starts_with("moe-")
    };
    let all = folders("mlx").into_iter().chain(folders("hf"));
    let found: Vec<_> = all.filter(is_mixture).collect();
    assert!(found.len() >= 8, "{} mixtures", found.len());
    found
}

#[test]
fn every_layout_of_the_experts_is_the_same_model() {
    let like = folder(JOINED);
    let (all, golden) = (tensors(&like), golden(&like));
    let expected = model(&like, 1, Precision::Exact).logits(&[&golden.tokens]);
    assert!(distance(&expected, &golden.logits) <= 1e-3);
    for tensors in [apart(&all), stacked(&all)] {
        let made = checkpoint(&like, &tensors);
        let logits = model(made.path(), 2, Precision::Exact).logits(&[&golden.tokens]);
        assert_eq!(bits(&logits), bits(&expected));
    }
}

/// Two sequences with other tokens, so with other experts, in the same passes: cut alike or not.
#[test]
fn a_sequence_does_not_see_its_neighbours() {
    for folder in mixtures() {
        let golden = golden(&folder);
        let first = &golden.tokens[..30];
        let second: Vec<u32> = golden.tokens[..30].iter().rev().copied().collect();
        for precision in [Precision::Exact, Precision::Fast] {
            let alone = model(&folder, 1, precision);
            let expected = [first, &second].map(|tokens| bits(&alone.logits(&[tokens])));
            let model = model(&folder, 3, precision);
            for [a, b] in [[30, 30], [7, 7], [1, 1], [1, 9], [13, 4]] {
                let mut slots = model.slots(2);
                let mut found = [Vec::new(), Vec::new()];
                let mut chunks = [first.chunks(a), second.chunks(b)];
                loop {
                    let mut batch = Batch::default();
                    let rows = [0, 1].map(|slot| {
                        let chunk = chunks[slot].next().unwrap_or_default();
                        if !chunk.is_empty() {
                            batch.push_scored(SlotId(slot), chunk);
                        }
                        chunk.len()
                    });
                    if batch.is_empty() {
                        break;
                    }
                    let logits = model.forward(&batch, &mut slots, || {}).unwrap();
                    let logits = bits(&model.backend().read(logits));
                    let (one, other) = logits.split_at(rows[0] * model.config.vocab);
                    found[0].extend_from_slice(one);
                    found[1].extend_from_slice(other);
                }
                assert_eq!(
                    found,
                    expected,
                    "{} {precision:?} {a} {b}",
                    folder.display()
                );
            }
        }
    }
}

/// A small mixture of random weights.
fn random_model(threads: usize, change: impl FnOnce(&mut HostWeights)) -> Model<CpuBackend> {
    let delta = DeltaDims::new(1, 2, 32, 32).unwrap();
    let config = ModelConfig {
        hidden: 128,
        feed_forward: FeedForward::Experts(ExpertDims::new(64, 4, 64, 64).unwrap()),
        layers: vec![Mixer::Delta, Mixer::Attention, Mixer::Delta],
        vocab: 512,
        attention: AttentionDims::new(2, 1, 32, 8).unwrap(),
        conv: ConvDims::new(delta.qkv_len(), 4).unwrap(),
        delta,
        ..Shape::B35A3.config()
    };
    let mut weights = random::weights(&config, &mut |_, _| {});
    change(&mut weights);
    let backend = CpuBackend::new(&config, threads, Precision::Fast);
    Model::new(backend, config, weights)
}

/// A matrix whose rows are all the first one.
fn repeated(matrix: &HostMatrix) -> HostMatrix {
    let Storage::Affine {
        affine,
        packed,
        float,
        scales,
        biases,
    } = &matrix.storage
    else {
        unreachable!("random weights are quantised");
    };
    let rows = matrix.rows;
    let first = |part: &Bytes| Bytes::new(part[..part.len() / rows].repeat(rows));
    HostMatrix {
        storage: Storage::Affine {
            affine: *affine,
            packed: first(packed),
            float: *float,
            scales: first(scales),
            biases: first(biases),
        },
        ..*matrix
    }
}

/// Every expert has the same logit for every token: the lower indices win, whatever the pass.
#[test]
fn ties_are_decided_alike_in_every_batch() {
    let tied = |weights: &mut HostWeights| {
        for layer in &mut weights.layers {
            let FeedForwardWeights::Experts(w) = &mut layer.feed_forward else {
                unreachable!("the model is a mixture");
            };
            w.router = repeated(&w.router);
        }
    };
    let tokens: Vec<u32> = (0..80).map(|i| (i * 37 + 11) % 512).collect();
    let expected = bits(&random_model(1, tied).logits(&[&tokens]));
    let model = random_model(2, tied);
    for size in [1, 3, 33] {
        let chunks: Vec<_> = tokens.chunks(size).collect();
        assert_eq!(bits(&model.logits(&chunks)), expected);
    }
    let reads = model.backend().expert_reads().unwrap();
    assert_eq!(reads.experts, 4 * reads.layers);
}

#[test]
fn random_routers_use_many_experts_and_prefer_some() {
    let model = random_model(2, |_| {});
    let reads = |rows: usize| {
        let before = model.backend().expert_reads().unwrap();
        let count = (40 * rows as u32).min(1024);
        let tokens: Vec<u32> = (0..count).map(|i| (i * 7 + 3) % 512).collect();
        let mut slots = model.slots(1);
        for chunk in tokens.chunks(rows) {
            let mut batch = Batch::default();
            batch.push_scored(SlotId(0), chunk);
            model.forward(&batch, &mut slots, || {});
        }
        model.backend().expert_reads().unwrap().mean_since(&before)
    };
    assert_eq!(reads(1), 4.0);
    // Chosen alike by rows that have nothing in common, 16 rows would use 41.2 of 64 experts and 256 all.
    let even = ExpertReads::of_even_choice(64, 4, 16);
    let [some, many] = [reads(16), reads(256)];
    assert!((8.0..even).contains(&some), "{some}");
    assert!(many > 40.0, "{many}");
}

fn refused(tensors: &BTreeMap<String, StoredTensor>, words: &[&str]) {
    let made = checkpoint(&folder(JOINED), tensors);
    let error = open(made.path()).map(|_| ()).unwrap_err();
    assert!(
        words.iter().all(|word| error.contains(word)),
        "{words:?} in {error}"
    );
}

#[test]
fn experts_that_do_not_fit_are_named() {
    let joined = tensors(&folder(JOINED));
    let at = "model.language_model.layers.1.mlp";
    let mut tensors = joined.clone();
    tensors.retain(|name, _| !name.starts_with(&format!("{at}.experts.")));
    refused(
        &tensors,
        &[
            "the experts of model.layers.1.mlp are missing",
            "switch_mlp.gate_proj.weight (MLX)",
            "experts.gate_up_proj",
        ],
    );

    let mut tensors = joined.clone();
    let down = format!("{at}.experts.down_proj");
    let part = tensors[&down].part(0, 0, 9);
    tensors.insert(down, part);
    refused(
        &tensors,
        &[
            &format!("{at}.experts.down_proj"),
            "[1, 32, 24]",
            "requires [9, 32, 24]",
        ],
    );

    let mut tensors = apart(&joined);
    tensors.remove(&format!("{at}.experts.8.up_proj.weight"));
    refused(
        &tensors,
        &[
            "tensor model.layers.1.mlp.experts.8.up_proj.weight",
            "is missing",
        ],
    );

    let mut tensors = apart(&joined);
    let name = format!("{at}.experts.3.up_proj.weight");
    let tensor = tensors.get_mut(&name).unwrap();
    tensor.dtype = Dtype::F16;
    refused(
        &tensors,
        &["model.layers.1.mlp.experts.3.up_proj", "than expert 0"],
    );

    let mut tensors = stacked(&joined);
    let extra = tensors[&format!("{at}.switch_mlp.up_proj.weight")].clone();
    tensors.insert(format!("{at}.experts.up_proj"), extra);
    refused(&tensors, &["the model has no tensor", "experts.up_proj"]);

    let mut tensors = joined.clone();
    tensors.remove(&format!("{at}.gate.weight"));
    refused(&tensors, &["model.layers.1.mlp.gate.weight", "is missing"]);
}

/// What config.json says about modules of a mixture is for exactly that module.
#[test]
fn router_is_not_its_neighbour() {
    let like = folder("mlx/moe-q4g64-router8");
    let file = fs::read(like.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&file).unwrap();
    let made = checkpoint(&like, &tensors(&like));
    let write =
        |config: &Value| fs::write(made.path().join("config.json"), config.to_string()).unwrap();
    // Unnamed modules have what their shapes say.
    let entries = config["quantization"].as_object().unwrap();
    assert!(entries.keys().any(|key| key.ends_with("mlp.gate")));
    config["quantization"] = serde_json::json!({"group_size": 64, "bits": 4});
    config
        .as_object_mut()
        .unwrap()
        .remove("quantization_config");
    write(&config);
    open(made.path()).unwrap();
    let gate = "language_model.model.layers.0.mlp.gate";
    config["quantization"][gate] = serde_json::json!({"group_size": 64, "bits": 4});
    write(&config);
    let error = open(made.path()).map(|_| ()).unwrap_err();
    assert!(
        error.contains("model.layers.0.mlp.gate has 4 bits"),
        "{error}"
    );
}
