//! What config.json says falsely, or leaves out, changes nothing where the tensors know better: the logits stay those of the
//! reference that made the checkpoint. What cannot be right is refused by name.

mod reference;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reference::{distance, folder, golden};
use sanctum_engine::backend::{CpuBackend, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{AdapterSource, HostModel, ModelSource};
use sanctum_manifest::{Expected, PublicKey, SigningKey};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A reference's checkpoint with another config.json.
fn with_config(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = copy.path().join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    copy
}

fn open(folder: &Path) -> Result<HostModel, String> {
    let opened = HostModel::open(&ModelSource::Folder(folder.to_owned()), |_, _| {});
    opened.map_err(|error| error.to_string())
}

/// How far a folder's logits are from the reference's, in its standard deviations.
fn distance_of(folder: &Path) -> f64 {
    let host = open(folder).unwrap_or_else(|error| panic!("{error}"));
    let backend = CpuBackend::new(&host.config, 1, Precision::Exact);
    let golden = golden(folder);
    let logits = Model::new(backend, host.config, host.weights).logits(&[&golden.tokens]);
    distance(&logits, &golden.logits)
}

fn refused(name: &str, change: impl FnOnce(&mut Value), words: &[&str]) {
    let opened = open(with_config(name, change).path());
    let error = opened.map(|_| ()).unwrap_err();
    let all = words.iter().all(|word| error.contains(word));
    assert!(all, "{words:?} in {error}");
}

fn text(config: &mut Value) -> &mut Value {
    &mut config["text_config"]
}

#[test]
fn output_matrix_is_used_whatever_tie_word_embeddings_says() {
    for (root, nested) in [(true, false), (false, true), (true, true)] {
        // Quantised, and plain.
        for name in ["mlx/q4g128", "hf/multimodal-bf16-mtp-shards"] {
            let folder = with_config(name, |config| {
                config["tie_word_embeddings"] = root.into();
                text(config)["tie_word_embeddings"] = nested.into();
            });
            let distance = distance_of(folder.path());
            assert!(distance <= 1e-3, "{name} {root} {nested}: {distance:.1e}");
        }
    }
}

#[test]
fn embedding_is_the_output_matrix_where_there_is_no_other() {
    let tied = "mlx/f16-tied-conv3";
    for (root, nested) in [
        (json!(false), json!(true)),
        (json!(true), json!(false)),
        (json!(null), json!(null)),
    ] {
        let folder = with_config(tied, |config| {
            config["tie_word_embeddings"] = root.clone();
            text(config)["tie_word_embeddings"] = nested.clone();
        });
        let distance = distance_of(folder.path());
        assert!(distance <= 1e-3, "{root} {nested}: {distance:.1e}");
    }
    let names = ["lm_head.weight", "tie_word_embeddings"];
    refused(
        tied,
        |config| text(config)["tie_word_embeddings"] = false.into(),
        &names,
    );
    let both = |config: &mut Value| {
        config["tie_word_embeddings"] = false.into();
        text(config)["tie_word_embeddings"] = false.into();
    };
    refused(tied, both, &names);
}

#[test]
fn bits_of_a_module_that_is_not_named_follow_from_its_shapes() {
    let unnamed = |config: &mut Value| {
        for key in ["quantization", "quantization_config"] {
            config[key] = json!({ "group_size": 64, "bits": 4, "mode": "affine" });
        }
    };
    // Modules of every width in groups of 32, 64 and 128, and plain ones.
    for name in ["mlx/q4-overrides", "mlx/q5-every-width"] {
        let distance = distance_of(with_config(name, unnamed).path());
        assert!(distance <= 1e-3, "{name}: {distance:.1e}");
    }
}

#[test]
fn bits_that_contradict_the_shapes_are_refused() {
    let embed = "language_model.model.embed_tokens";
    refused(
        "mlx/q4-overrides",
        |config| config["quantization"][embed] = json!({ "group_size": 64, "bits": 4 }),
        &[
            "model.embed_tokens",
            "4 bits in groups of 64",
            "8 bits in groups of 64",
        ],
    );
    refused(
        "mlx/q4-overrides",
        |config| config["quantization"][embed] = false.into(),
        &["model.embed_tokens", "not quantised"],
    );
    refused(
        "mlx/q4g128",
        |config| {
            let fields = config.as_object_mut().unwrap();
            fields.retain(|key, _| !key.starts_with("quantization"));
        },
        &["model.embed_tokens", "quantization"],
    );
    // As if the weights had 2 bits in groups of 256.
    refused(
        "mlx/q4g128",
        |config| text(config)["hidden_size"] = 512.into(),
        &[
            "model.embed_tokens",
            "2 bits in groups of 256",
            "config.json",
        ],
    );
}

#[test]
fn numbers_that_are_not_finite_are_read_where_nothing_needs_them() {
    let name = "mlx/f32-flat";
    let folder = with_config(name, |_| {});
    let path = folder.path().join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    let unused = config.replacen(
        '{',
        r#"{"initializer_range": NaN, "x": [Infinity, -Infinity],"#,
        1,
    );
    fs::write(&path, format!("\u{feff}{unused}")).unwrap();
    let distance = distance_of(folder.path());
    assert!(distance <= 1e-3, "{distance:.1e}");
    for (field, value) in [
        ("rms_norm_eps", "NaN"),
        ("hidden_size", "Infinity"),
        ("eos_token_id", "-Infinity"),
        ("rope_scaling", "NaN"),
    ] {
        let field_first = format!("{{\"{field}\": {value},");
        // Of two equal keys the last one counts.
        let mut whole: Value = serde_json::from_str(&config).unwrap();
        whole.as_object_mut().unwrap().remove(field);
        fs::write(&path, whole.to_string().replacen('{', &field_first, 1)).unwrap();
        let error = open(folder.path()).map(|_| ()).unwrap_err();
        assert!(error.contains(field) && error.contains(value), "{error}");
    }
}

#[test]
fn scaling_in_rope_parameters_and_in_rope_scaling_is_the_same() {
    let name = "mlx/bf16-yarn-beside";
    let scaling = json!({
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "rope_theta": 1e4,
        "beta_fast": 32, "beta_slow": 1, "mscale": 1.0
    });
    for older in [Value::Null, scaling.clone()] {
        let folder = with_config(name, |config| {
            let rope = text(config)["rope_parameters"].as_object_mut().unwrap();
            let mut all = scaling.as_object().unwrap().clone();
            all.remove("type");
            rope.extend(all);
            rope.insert("rope_type".into(), "yarn".into());
            text(config)["rope_scaling"] = older;
        });
        let distance = distance_of(folder.path());
        assert!(distance <= 1e-3, "{distance:.1e}");
    }
    // And it is not without effect.
    let folder = with_config(name, |config| text(config)["rope_scaling"] = Value::Null);
    let distance = distance_of(folder.path());
    assert!(distance > 1e-2, "{distance:.1e}");
}

fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

fn make_folder(path: &Path) {
    fs::create_dir(path).unwrap();
}

/// Each thing that a file can be replaced with, at each place that is read.
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    type Make = fn(&Path);
    let kinds: [(Make, &str); 2] = [(make_fifo, "a FIFO"), (make_folder, "a folder")];
    for (make, kind) in kinds {
        let home = TempDir::new().unwrap();
        let model = home.path().join("model");
        let names = |error: String, begun: Instant, path: &Path| {
            let file = path.file_name().unwrap().to_str().unwrap();
            assert!(error.contains(file) && error.contains(kind), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(1), "{error}");
        };
        for file in [
            "config.json",
            "model.safetensors.index.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "generation_config.json",
            "chat_template.jinja",
            "chat_template.json",
        ] {
            sanctum_engine::load::embedded::export(&model).unwrap();
            let path = model.join(file);
            let _ = fs::remove_file(&path);
            make(&path);
            let begun = Instant::now();
            let error = ModelSource::Folder(model.clone()).open(None, |_, _| {});
            names(error.map(|_| ()).unwrap_err().to_string(), begun, &path);
            fs::remove_dir_all(&model).unwrap();
        }

        sanctum_engine::load::embedded::export(&model).unwrap();
        let path = |name: &str| home.path().join(name);
        for adapter_file in ["adapter_config.json", "adapters.safetensors"] {
            let adapter = path("adapter");
            fs::create_dir(&adapter).unwrap();
            make(&adapter.join(adapter_file));
            let begun = Instant::now();
            let source = AdapterSource::new(&adapter).unwrap();
            let error = ModelSource::Folder(model.clone()).open(Some(&source), |_, _| {});
            names(
                error.unwrap_err().to_string(),
                begun,
                &adapter.join(adapter_file),
            );
            fs::remove_dir_all(&adapter).unwrap();
        }

        for file in ["list.sha256", "list.sha256.sig", "key.pub"] {
            let key = SigningKey::generate().unwrap();
            let manifest = sanctum_manifest::create(&model, &[], |_, _| ()).unwrap();
            let [list, signature, public] = ["list.sha256", "list.sha256.sig", "key.pub"].map(path);
            fs::write(&list, manifest.to_string()).unwrap();
            fs::write(&signature, key.sign(manifest.to_string().as_bytes()).0).unwrap();
            fs::write(&public, key.public().to_file()).unwrap();
            fs::remove_file(path(file)).unwrap();
            make(&path(file));
            let source = ModelSource::Verified {
                folder: model.clone(),
                expected: Expected {
                    manifest: list,
                    keys: vec![public],
                },
            };
            let begun = Instant::now();
            let error = source.open(None, |_, _| {}).map(|_| ()).unwrap_err();
            names(error.to_string(), begun, &path(file));
            match kind {
                "a FIFO" => fs::remove_file(path(file)).unwrap(),
                _ => fs::remove_dir(path(file)).unwrap(),
            }
        }

        let key = path("key");
        make(&key);
        let begun = Instant::now();
        for error in [PublicKey::read(&key).err(), SigningKey::read(&key).err()] {
            names(error.unwrap().to_string(), begun, &key);
        }
    }
}
