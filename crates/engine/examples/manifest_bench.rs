//! What verification costs: GB/s by threads, beside `openssl speed` on the same machine, and the start of a
//! 0.8B-shaped model with a manifest and without.
//!
//! `cargo run --release -p sanctum-engine --example manifest_bench [FOLDER]` writes 1.5 GB of random files into a
//! temporary folder inside FOLDER, and removes them. Figures are from the page cache unless they say otherwise, and
//! each is the median of five.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Instant;

use safetensors::{Dtype, View};
use sanctum_engine::launch::{LaunchOptions, launch};
use sanctum_engine::load::random::{self, Shape};
use sanctum_engine::load::weights::{
    FeedForwardWeights, HostMatrix, HostWeights, MixerWeights, Storage,
};
use sanctum_engine::load::{FeedForward, HostModel, Mixer, ModelConfig, ModelSource, embedded};
use sanctum_engine::schedule::Heartbeat;
use sanctum_manifest::{Expected, SigningKey, Verification, create, signature_path};
use serde_json::json;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const REPEAT: usize = 5;
/// Files of the throughput test, and bytes in each.
const FILES: usize = 16;
const SIZE: usize = 64 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manifest_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let place = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let home = tempfile::Builder::new()
        .prefix("manifest-bench-")
        .tempdir_in(place)?;
    throughput(home.path())?;
    for shards in [1, 4] {
        starts(home.path(), shards)?;
    }
    Ok(())
}

/// GB/s of verification at 1 to all threads, and what openssl says of the same cores.
fn throughput(home: &Path) -> Outcome {
    let folder = home.join("files");
    fs::create_dir(&folder)?;
    let mut bytes = vec![0; SIZE];
    for index in 0..FILES {
        bytes[0] = index as u8;
        fs::write(folder.join(format!("{index:02}.safetensors")), &bytes)?;
    }
    let expected = signed(&folder, &home.join("files.sha256"))?;
    let cores = std::thread::available_parallelism()?.get();
    for threads in 1..=cores {
        let seconds = median(|| {
            let begun = Verification::start_on(&folder, &expected, threads)?;
            begun.wait(|_, _| ())?.unchanged()?;
            Ok(())
        })?;
        let rate = (FILES * SIZE) as f64 / 1e9 / seconds;
        println!("verification, {threads} threads: {rate:.2} GB/s");
    }
    match openssl() {
        Some(rate) => println!(
            "openssl speed, one thread x {cores}: {:.2} GB/s",
            rate * cores as f64
        ),
        None => println!("openssl is not here to compare with"),
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// GB/s of one thread of `openssl speed`.
fn openssl() -> Option<f64> {
    let speed = [
        "speed", "-evp", "sha256", "-bytes", "16384", "-seconds", "1",
    ];
    let output = Command::new("openssl").args(speed).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let last = text.lines().last()?.split_whitespace().last()?;
    Some(last.strip_suffix('k')?.parse::<f64>().ok()? / 1e6)
}

/// Seconds from nothing to an engine that runs, with a manifest and without.
fn starts(home: &Path, shards: usize) -> Outcome {
    let folder = home.join("model");
    write_model(&folder, Shape::B0_8, shards)?;
    let expected = signed(&folder, &home.join("model.sha256"))?;
    let start = |source: &ModelSource| {
        median(|| {
            let heartbeat = Arc::new(Heartbeat::new());
            let launched = launch(
                source,
                None,
                &LaunchOptions::default(),
                heartbeat,
                |_, _| (),
            )?;
            if let Some(verified) = launched.verified {
                verified.unchanged()?;
            }
            Ok(())
        })
    };
    let unverified = ModelSource::Folder(folder.clone());
    let listed = ModelSource::Verified {
        folder: folder.clone(),
        expected,
    };
    let (plain, verified) = (start(&unverified)?, start(&listed)?);
    println!(
        "start of a {} folder in {shards} shards: {plain:.2} s, verified {verified:.2} s",
        Shape::B0_8
    );
    // The files out of the page cache, where GNU's dd is there to do it.
    let cold = |source: &ModelSource| {
        let mut seconds = Vec::with_capacity(REPEAT);
        for _ in 0..REPEAT {
            if !forget(&folder)? {
                return Ok(None);
            }
            let began = Instant::now();
            HostModel::open(source, |_, _| ())?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Outcome::Ok(Some(seconds[REPEAT / 2]))
    };
    if let (Some(plain), Some(verified)) = (cold(&unverified)?, cold(&listed)?) {
        println!("its weights from the disk: {plain:.2} s, verified {verified:.2} s");
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// Drops a folder's files from the page cache; whether that could be done.
fn forget(folder: &Path) -> Outcome<bool> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // What is not yet written cannot be dropped.
        fs::File::open(&path)?.sync_all()?;
        let mut input = std::ffi::OsString::from("if=");
        input.push(&path);
        let dd = Command::new("dd")
            .arg(input)
            .args(["of=/dev/null", "iflag=nocache", "count=0", "status=none"])
            .stderr(Stdio::null())
            .status();
        if !dd.is_ok_and(|status| status.success()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A signed manifest of a folder.
fn signed(folder: &Path, manifest: &Path) -> Outcome<Expected> {
    let key = SigningKey::generate()?;
    let text = create(folder, &[], |_, _| ())?.to_string();
    let public = manifest.with_extension("pub");
    fs::write(manifest, &text)?;
    fs::write(signature_path(manifest), key.sign(text.as_bytes()).0)?;
    fs::write(&public, key.public().to_file())?;
    Ok(Expected {
        manifest: manifest.to_owned(),
        keys: vec![public],
    })
}

fn median(mut once: impl FnMut() -> Outcome) -> Outcome<f64> {
    once()?; // the page cache is warm from here on
    let mut seconds = Vec::with_capacity(REPEAT);
    for _ in 0..REPEAT {
        let began = Instant::now();
        once()?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[REPEAT / 2])
}

/// A tensor to write.
struct TensorSpec {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &TensorSpec {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes random weights of a shape as a checkpoint folder in MLX's layout.
fn write_model(folder: &Path, shape: Shape, shards: usize) -> Outcome {
    embedded::export(folder)?;
    fs::remove_file(folder.join("model.safetensors"))?;
    let config = shape.config();
    fs::write(folder.join("config.json"), config_json(&config).to_string())?;
    let tensors = tensors(&config, &random::weights(&config, &mut |_, _| ()));
    let mut index = BTreeMap::new();
    for shard in 0..shards {
        let file = format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
        // The embedding is a third of everything, so shards are filled by turns rather than in order.
        let own = || tensors.iter().skip(shard).step_by(shards);
        safetensors::serialize_to_file(own(), None, &folder.join(&file))?;
        index.extend(own().map(|(name, _)| (name, file.clone())));
    }
    let index = json!({ "weight_map": index }).to_string();
    fs::write(folder.join("model.safetensors.index.json"), index)?;
    Ok(())
}

fn config_json(config: &ModelConfig) -> serde_json::Value {
    let FeedForward::Dense { intermediate } = config.feed_forward else {
        unreachable!("the shapes that are measured are dense");
    };
    let layer = |mixer: &Mixer| match mixer {
        Mixer::Attention => "full_attention",
        Mixer::Delta => "linear_attention",
    };
    json!({
        "model_type": "qwen3_5",
        "hidden_size": config.hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": config.layers.len(),
        "layer_types": config.layers.iter().map(layer).collect::<Vec<_>>(),
        "full_attention_interval": 4,
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.rms_eps,
        "tie_word_embeddings": config.tied,
        "num_attention_heads": config.attention.heads,
        "num_key_value_heads": config.attention.kv_heads,
        "head_dim": config.attention.head_dim,
        "rope_parameters": { "rope_theta": config.rope_theta, "partial_rotary_factor": 0.25 },
        "linear_num_key_heads": config.delta.key_heads,
        "linear_num_value_heads": config.delta.value_heads,
        "linear_key_head_dim": config.delta.key_dim,
        "linear_value_head_dim": config.delta.value_dim,
        "linear_conv_kernel_dim": config.conv.kernel,
        "quantization": { "group_size": 64, "bits": 4 },
    })
}

fn tensors(config: &ModelConfig, weights: &HostWeights) -> BTreeMap<String, TensorSpec> {
    let mut out = BTreeMap::new();
    matrix(&mut out, "model.embed_tokens", &weights.embed);
    vector(
        &mut out,
        "model.norm.weight",
        &weights.norm,
        &[config.hidden],
    );
    for (index, layer) in weights.layers.iter().enumerate() {
        let at = |part: &str| format!("model.layers.{index}.{part}");
        let hidden = [config.hidden];
        vector(
            &mut out,
            &at("input_layernorm.weight"),
            &layer.input_norm,
            &hidden,
        );
        vector(
            &mut out,
            &at("post_attention_layernorm.weight"),
            &layer.post_norm,
            &hidden,
        );
        let FeedForwardWeights::Dense(block) = &layer.feed_forward else {
            unreachable!("the shapes that are measured are dense");
        };
        matrix(&mut out, &at("mlp.gate_proj"), &block.gate);
        matrix(&mut out, &at("mlp.up_proj"), &block.up);
        matrix(&mut out, &at("mlp.down_proj"), &block.down);
        match &layer.mixer {
            MixerWeights::Attention(w) => {
                let at = |part: &str| at(&format!("self_attn.{part}"));
                matrix(&mut out, &at("q_proj"), &w.q);
                matrix(&mut out, &at("k_proj"), &w.k);
                matrix(&mut out, &at("v_proj"), &w.v);
                matrix(&mut out, &at("o_proj"), &w.o);
                vector(&mut out, &at("q_norm.weight"), &w.q_norm, &[w.q_norm.len()]);
                vector(&mut out, &at("k_norm.weight"), &w.k_norm, &[w.k_norm.len()]);
            }
            MixerWeights::Delta(w) => {
                let at = |part: &str| at(&format!("linear_attn.{part}"));
                matrix(&mut out, &at("in_proj_qkv"), &w.qkv);
                matrix(&mut out, &at("in_proj_z"), &w.z);
                matrix(&mut out, &at("in_proj_b"), &w.b);
                matrix(&mut out, &at("in_proj_a"), &w.a);
                matrix(&mut out, &at("out_proj"), &w.out);
                let conv = [config.conv.channels, config.conv.kernel, 1];
                vector(&mut out, &at("conv1d.weight"), &w.conv, &conv);
                vector(&mut out, &at("A_log"), &w.a_log, &[w.a_log.len()]);
                vector(&mut out, &at("dt_bias"), &w.dt_bias, &[w.dt_bias.len()]);
                vector(&mut out, &at("norm.weight"), &w.norm, &[w.norm.len()]);
            }
        }
    }
    out
}

fn matrix(out: &mut BTreeMap<String, TensorSpec>, module: &str, matrix: &HostMatrix) {
    let Storage::Affine {
        affine,
        packed,
        scales,
        biases,
        ..
    } = &matrix.storage
    else {
        unreachable!("random weights are quantised");
    };
    let groups = matrix.cols / affine.group;
    for (part, dtype, width, bytes) in [
        ("weight", Dtype::U32, matrix.cols / 8, packed),
        ("scales", Dtype::BF16, groups, scales),
        ("biases", Dtype::BF16, groups, biases),
    ] {
        let tensor = TensorSpec {
            dtype,
            shape: vec![matrix.rows, width],
            bytes: bytes.to_vec(),
        };
        out.insert(format!("{module}.{part}"), tensor);
    }
}

fn vector(out: &mut BTreeMap<String, TensorSpec>, name: &str, values: &[f32], shape: &[usize]) {
    let tensor = TensorSpec {
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    };
    out.insert(name.to_owned(), tensor);
}
