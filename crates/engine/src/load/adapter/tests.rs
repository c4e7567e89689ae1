//! What is read, what is refused and by which name, and the arithmetic against `mlx.core.quantize`.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sanctum_kernels::cpu::{self, BlockFormat, Cpu, Float};
use serde_json::{Value, json};

use super::*;
use crate::load::model_config::AffineQuantization;
use crate::load::weights::Storage;
use sanctum_manifest::Bytes;

const MLX: &str = "adapters.safetensors";
const PEFT: &str = "adapter_model.safetensors";

fn mlx_config() -> Value {
    json!({ "fine_tune_type": "lora", "num_layers": 4, "batch_size": 4,
            "lora_parameters": { "rank": 2, "scale": 0.5, "dropout": 0.0, "keys": ["q"] } })
}

fn peft_config() -> Value {
    json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "use_dora": false, "modules_to_save": null,
            "rank_pattern": {}, "target_modules": ["q_proj"], "lora_dropout": 0.1, "fan_in_fan_out": false })
}

/// A safetensors file of small numbers.
fn weights(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let numbers: Vec<u8> = (0..4096u16)
        .flat_map(|i| f32::from(i % 7).to_le_bytes())
        .collect();
    let views = tensors.iter().map(|(name, shape)| {
        let bytes = 4 * shape.iter().product::<usize>();
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &numbers[..bytes]);
        (name.to_string(), view.unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn read(file: &str, config: &Value, weights: Vec<u8>) -> Result<Adapter, AdapterError> {
    let source = AdapterSource {
        name: "new".parse().unwrap(),
        folder: "new".into(),
    };
    let config = config.to_string().into_bytes();
    source.read(&Files::memory([
        ("adapter_config.json", config),
        (file, weights),
    ]))
}

fn refusal(file: &str, config: &Value, tensors: &[(&str, &[usize])]) -> String {
    match read(file, config, weights(tensors)) {
        Ok(_) => panic!("{config} {tensors:?} was taken"),
        Err(error) => error.to_string(),
    }
}

fn changed(mut config: Value, field: &str, value: Value) -> Value {
    config[field] = value;
    config
}

/// A plain matrix of zeros, so that what comes of it is what was added.
fn zeros(rows: usize, cols: usize) -> HostMatrix {
    HostMatrix {
        rows,
        cols,
        storage: Storage::Dense {
            float: Float::F32,
            data: Bytes::new(vec![0; 4 * rows * cols]),
        },
    }
}

fn floats(matrix: &HostMatrix) -> Vec<f32> {
    let words = matrix.parts()[0].as_chunks().0;
    words.iter().map(|&word| f32::from_le_bytes(word)).collect()
}

#[test]
fn both_layouts_add_scale_b_a() {
    // a = [[0, 1, 2], [3, 4, 5]], b = [[0, 1], [2, 3], [4, 5], [6, 0]]
    let module = "model.layers.0.mlp.up_proj";
    let expected = |scale: f32| -> Vec<f32> {
        let (a, b) = (
            [[0., 1., 2.], [3., 4., 5.]],
            [[0., 1.], [2., 3.], [4., 5.], [6., 0.]],
        );
        let add = |row: &[f32; 2], i: usize| scale * (row[0] * a[0][i] + row[1] * a[1][i]);
        b.iter()
            .flat_map(|row| (0..3).map(move |i| add(row, i)).collect::<Vec<_>>())
            .collect()
    };
    let peft = weights(&[
        (
            "base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight",
            &[2, 3],
        ),
        (
            "base_model.model.model.language_model.layers.0.mlp.up_proj.lora_B.weight",
            &[4, 2],
        ),
    ]);
    for (rslora, scale) in [(false, 4.0), (true, 8.0 / 2f32.sqrt())] {
        let config = changed(peft_config(), "use_rslora", rslora.into());
        let mut adapter = read(PEFT, &config, peft.clone()).unwrap();
        let merged = adapter.merged(module, zeros(4, 3)).unwrap();
        assert_eq!(floats(&merged), expected(scale));
        assert_eq!(adapter.finish().unwrap().to_string(), "new-r2-a8-1");
    }
    let mlx = weights(&[
        ("language_model.model.layers.0.mlp.up_proj.lora_a", &[3, 2]),
        ("language_model.model.layers.0.mlp.up_proj.lora_b", &[2, 4]),
    ]);
    let mut adapter = read(MLX, &mlx_config(), mlx).unwrap();
    let merged = floats(&adapter.merged(module, zeros(4, 3)).unwrap());
    // aᵀ = [[0, 1], [2, 3], [4, 5]] and bᵀ = [[0, 1, 2, 3], [4, 5, 6, 0]]: the first row is half of 4 times a's second.
    assert_eq!(merged[..3], [2.0, 6.0, 10.0]);
    assert_eq!(merged[9..], [0.0, 3.0, 6.0]);
    let other = adapter
        .merged("model.layers.1.mlp.up_proj", zeros(1, 1))
        .unwrap();
    assert_eq!(floats(&other), [0.0]);
}

#[test]
fn patterns_name_modules_by_their_ends() {
    let mut config = peft_config();
    config["rank_pattern"] = json!({ "self_attn.q_proj": 4, "layers.1.mlp.up_proj": 8 });
    config["alpha_pattern"] =
        json!({ "o_proj": 1, "self_attn.o_proj": 1, "k_proj": 16, "self_attn.k_proj": 64 });
    let config = Config::parse(AdapterLayout::Peft, config.to_string().as_bytes()).unwrap();
    let of = |module| config.of(module).unwrap();
    assert_eq!(of("model.layers.0.self_attn.q_proj"), (4, 2.0));
    assert_eq!(of("model.layers.1.mlp.up_proj"), (8, 1.0));
    assert_eq!(of("model.layers.11.mlp.up_proj"), (2, 4.0));
    assert_eq!(of("model.layers.0.self_attn.o_proj"), (2, 0.5));
    assert_eq!(of("model.layers.0.self_attn.oq_proj"), (2, 4.0));
    // Which of two PEFT takes is not written down.
    let error = config
        .of("model.layers.0.self_attn.k_proj")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("alpha_pattern has \"k_proj\" and \"self_attn.k_proj\", which both name model.layers.0.self_attn.k_proj"),
        "{error}"
    );
}

#[test]
fn a_sum_that_the_weights_type_cannot_hold_is_refused() {
    let pair = |name: &str, shape: &[usize], value: f32| {
        let bytes: Vec<u8> = (0..shape.iter().product())
            .flat_map(|_: usize| value.to_le_bytes())
            .collect();
        (name.to_owned(), shape.to_vec(), bytes)
    };
    let file = |value: f32| {
        let tensors = [
            pair("m.lora_a", &[64, 2], value),
            pair("m.lora_b", &[2, 4], value),
        ];
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        safetensors::serialize(views, None).unwrap()
    };
    let plain = |float, size: usize| HostMatrix {
        rows: 4,
        cols: 64,
        storage: Storage::Dense {
            float,
            data: Bytes::new(vec![0; size * 4 * 64]),
        },
    };
    let packed = |float, size: usize| HostMatrix {
        rows: 4,
        cols: 64,
        storage: Storage::Affine {
            affine: AffineQuantization { bits: 4, group: 64 },
            packed: Bytes::new(vec![0; 4 * 32]),
            float,
            scales: Bytes::new(vec![0; 4 * size]),
            biases: Bytes::new(vec![0; 4 * size]),
        },
    };
    for (value, float, size, taken) in [
        (200.0, Float::F16, 2, true),
        (300.0, Float::F16, 2, false),
        (300.0, Float::Bf16, 2, true),
        (1e20, Float::F32, 4, false),
        (f32::NAN, Float::F32, 4, false),
    ] {
        for matrix in [plain(float, size), packed(float, size)] {
            let mut adapter = read(MLX, &mlx_config(), file(value)).unwrap();
            match adapter.merged("m", matrix) {
                Ok(_) => assert!(taken, "{value} in {float:?} was taken"),
                Err(error) => {
                    assert!(!taken, "{error}");
                    assert!(error.to_string().contains("not finite"), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_file_that_is_no_file_or_is_missing_is_named() {
    let home = tempfile::tempdir().unwrap();
    let source = AdapterSource::new(home.path()).unwrap_or_else(|_| AdapterSource {
        name: "new".parse().unwrap(),
        folder: home.path().to_owned(),
    });
    let opened = || source.open(&ModelSource::Embedded).err().unwrap();
    assert!(opened().to_string().contains("neither"), "{}", opened());
    fs::write(home.path().join(MLX), weights(&[("m.lora_a", &[3, 2])])).unwrap();
    let error = opened();
    assert!(
        error.to_string().contains("has no adapter_config.json"),
        "{error}"
    );
    fs::create_dir(home.path().join("adapter_config.json")).unwrap();
    let error = opened();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    // The message for clients names no folder.
    assert!(
        !error
            .message_for_clients()
            .contains(home.path().to_str().unwrap()),
        "{}",
        error.message_for_clients()
    );
}

/// Training may go on in the folder, whether or not a manifest was made of it before.
#[test]
fn what_happens_to_the_files_after_they_were_read_does_not_matter() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("new");
    fs::create_dir(&folder).unwrap();
    let source = AdapterSource::new(&folder).unwrap();
    let pair = weights(&[("m.lora_a", &[3, 2]), ("m.lora_b", &[2, 4])]);
    fs::write(folder.join("adapter_config.json"), mlx_config().to_string()).unwrap();
    let expected = read(MLX, &mlx_config(), pair.clone())
        .and_then(|mut adapter| adapter.merged("m", zeros(4, 3)))
        .unwrap();
    let verified = ModelSource::Verified {
        folder: home.path().join("model"),
        expected: Expected {
            manifest: home.path().join("model.sha256"),
            keys: Vec::new(),
        },
    };
    for model in [ModelSource::Embedded, verified] {
        fs::write(folder.join(MLX), &pair).unwrap();
        let listed = sanctum_manifest::create(&folder, &[], |_, _| ()).unwrap();
        fs::write(source.manifest(), listed.to_string()).unwrap();
        let mut adapter = source.open(&model).unwrap();
        // In place: truncated, as a file is that is being rewritten, and then with other numbers.
        fs::write(folder.join(MLX), "").unwrap();
        fs::write(folder.join(MLX), vec![0; pair.len()]).unwrap();
        let merged = adapter.merged("m", zeros(4, 3)).unwrap();
        assert_eq!(floats(&merged), floats(&expected), "{model}");
        assert!(source.open(&model).is_err());
    }
}

#[test]
fn the_name_and_the_manifest_are_those_of_the_folder_that_a_path_leads_to() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().canonicalize().unwrap().join("radio-v2");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&folder, home.path().join("current")).unwrap();
    for path in [
        "radio-v2",
        "radio-v2/",
        "radio-v2/.",
        "current",
        "radio-v2/../current/",
    ] {
        let source = AdapterSource::new(&home.path().join(path)).unwrap();
        assert_eq!(source.name.as_str(), "radio-v2", "{path}");
        assert_eq!(source.folder, folder);
        assert_eq!(source.manifest(), folder.with_file_name("radio-v2.sha256"));
    }
}

#[test]
fn what_is_not_done_is_refused_by_its_name() {
    let pair: &[(&str, &[usize])] = &[("m.lora_a", &[3, 2]), ("m.lora_b", &[2, 4])];
    let mlx = |field, value| refusal(MLX, &changed(mlx_config(), field, value), pair);
    let says = |error: String, what: &str| assert!(error.contains(what), "{error} lacks {what}");
    says(
        mlx("fine_tune_type", "dora".into()),
        "fine_tune_type is \"dora\"",
    );
    says(
        mlx("fine_tune_type", "full".into()),
        "fine_tune_type is \"full\"",
    );
    says(mlx("use_dora", true.into()), "use_dora is true");
    says(
        mlx("lora_parameters", Value::Null),
        "lora_parameters must be an object",
    );
    says(
        mlx("lora_parameters", json!({ "rank": 0, "scale": 1 })),
        "lora_parameters.rank must be",
    );
    says(
        mlx("lora_parameters", json!({ "rank": 2 })),
        "lora_parameters.scale must be",
    );

    let pair: &[(&str, &[usize])] = &[
        ("base_model.model.m.lora_A.weight", &[2, 3]),
        ("base_model.model.m.lora_B.weight", &[4, 2]),
    ];
    let peft = |field, value| refusal(PEFT, &changed(peft_config(), field, value), pair);
    for (field, value) in [
        ("peft_type", json!("LOHA")),
        ("use_dora", json!(true)),
        ("bias", json!("lora_only")),
        ("modules_to_save", json!(["lm_head"])),
        ("fan_in_fan_out", json!(true)),
        ("lora_bias", json!(true)),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("trainable_token_indices", json!([1])),
        ("layer_replication", json!([[0, 2]])),
        ("something_new", json!(1)),
    ] {
        let error = peft(field, value.clone());
        says(error, &format!("adapter_config.json: {field} is {value}"));
    }
    says(
        peft("rank_pattern", json!({ "^q": 2 })),
        "rank_pattern[\"^q\"] is a regular expression",
    );
    says(
        peft("lora_alpha", json!("8")),
        "lora_alpha must be a number",
    );
}

#[test]
fn tensors_that_do_not_pair_are_named() {
    let mlx = |tensors: &[(&str, &[usize])]| refusal(MLX, &mlx_config(), tensors);
    let peft = |name: &str| refusal(PEFT, &peft_config(), &[(name, &[2, 3])]);
    let says = |error: String, what: &str| assert!(error.contains(what), "{error} lacks {what}");
    says(mlx(&[]), "holds no pairs");
    says(
        mlx(&[("m.lora_a", &[3, 2])]),
        "m.lora_a in adapters.safetensors has no partner m.lora_b",
    );
    says(mlx(&[("m.lora_b", &[2, 3])]), "no partner m.lora_a");
    says(
        mlx(&[("m.m", &[3])]),
        "m.m in adapters.safetensors is a DoRA magnitude",
    );
    says(
        mlx(&[("model.norm.weight", &[3])]),
        "model.norm.weight in adapters.safetensors is no half",
    );
    says(
        mlx(&[("model.embed_tokens.lora_a", &[3, 2])]),
        "half of an embedding's pair",
    );
    for module in [
        "model.layers.0.mlp.switch_mlp.up_proj",
        "model.layers.0.mlp.experts.0.up_proj",
    ] {
        says(
            mlx(&[(&format!("{module}.lora_a"), &[3, 2])]),
            "is half of a pair of routed experts, which is not supported; train it without the experts",
        );
    }
    let error = mlx(&[("m.lora_a", &[3, 5]), ("m.lora_b", &[2, 4])]);
    says(
        error,
        "m.lora_a in adapters.safetensors has shape [3, 5], but its rank in adapter_config.json requires [3, 2]",
    );
    let error = mlx(&[
        ("model.m.lora_a", &[3, 2]),
        ("model.m.lora_b", &[2, 4]),
        ("model.language_model.m.lora_a", &[3, 2]),
        ("model.language_model.m.lora_b", &[2, 4]),
    ]);
    says(error, "are for the same module");
    says(
        peft("base_model.model.m.lora_magnitude_vector.weight"),
        "is a DoRA magnitude",
    );
    says(
        peft("base_model.model.m.lora_embedding_A"),
        "half of an embedding's pair",
    );
    says(
        peft("base_model.model.lm_head.weight"),
        "is a whole tensor of the model",
    );
    says(
        peft("base_model.model.m.lora_A.default.weight"),
        "no half of a LoRA pair",
    );
    says(
        peft("base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight"),
        "is half of a pair of routed experts",
    );
    says(peft("m.lora_A.weight"), "not under base_model.model");
    says(
        peft("base_model.model.m.lora_A.weight"),
        "no partner base_model.model.m.lora_B.weight",
    );
}

#[test]
fn a_pair_must_fit_its_matrix_and_have_one() {
    let pair: &[(&str, &[usize])] = &[("m.lora_a", &[3, 2]), ("m.lora_b", &[2, 4])];
    let read = || read(MLX, &mlx_config(), weights(pair)).unwrap();
    let error = read().merged("m", zeros(4, 5)).unwrap_err().to_string();
    assert!(
        error.contains(
            "m.lora_a in adapters.safetensors has shape [3, 2], but the model requires [5, 2]"
        ),
        "{error}"
    );
    let error = read().merged("m", zeros(5, 3)).unwrap_err().to_string();
    assert!(
        error.contains(
            "m.lora_b in adapters.safetensors has shape [2, 4], but the model requires [2, 5]"
        ),
        "{error}"
    );
    let error = read().finish().unwrap_err().to_string();
    assert!(error.contains("no matrix for tensor m.lora_a"), "{error}");
}

#[test]
fn a_name_is_never_a_path() {
    for name in ["radio", "v1.2_final-b", "A"] {
        assert_eq!(name.parse::<AdapterName>().unwrap().as_str(), name);
    }
    for name in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        ".hidden",
        "a b",
        "é",
        &"x".repeat(65),
    ] {
        assert!(name.parse::<AdapterName>().is_err(), "{name}");
    }
}

/// The file that `tests/golden/make_adapters.py` writes.
#[test]
fn groups_are_quantised_as_mlx_does() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/adapters/quantize.safetensors");
    let bytes = fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, float) in [
        ("float32", Float::F32),
        ("float16", Float::F16),
        ("bfloat16", Float::Bf16),
    ] {
        let weight = file.tensor(&format!("{name}.weight")).unwrap();
        for (bits, group) in [2, 3, 4, 5, 6, 8]
            .into_iter()
            .flat_map(|bits| [32, 64, 128].map(|group| (bits, group)))
        {
            let tensor = |kind: &str| {
                file.tensor(&format!("{name}.{bits}.{group}.{kind}"))
                    .unwrap()
            };
            let affine = AffineQuantization { bits, group };
            let found = merge::quantised(affine, float, weight.shape(), weight.data());
            for (found, kind) in found.iter().zip(["packed", "scales", "biases"]) {
                assert!(
                    found == tensor(kind).data(),
                    "{name} {bits} {group}: {kind}"
                );
            }
        }
    }
}

#[test]
fn pair_for_blocks_is_refused_by_name() {
    let pair = weights(&[("m.lora_a", &[64, 2]), ("m.lora_b", &[2, 4])]);
    let mut adapter = read(MLX, &mlx_config(), pair).unwrap();
    let blocks = HostMatrix {
        rows: 4,
        cols: 64,
        storage: Storage::Blocks {
            format: BlockFormat::MxFp4,
            packed: Bytes::new(vec![0; 4 * 32]),
            scales: Bytes::new(vec![127; 4 * 2]),
        },
    };
    let error = adapter.merged("m", blocks).unwrap_err().to_string();
    for part in ["m.lora_a", "mxfp4", "convert the model"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn every_width_is_read_and_written_alike() {
    let cpu = Cpu::new(1);
    let halves = [("m.lora_a", [64, 2]), ("m.lora_b", [2, 4])];
    let zeros = vec![0; 4 * 128];
    let views = halves.map(|(name, shape)| {
        let bytes = &zeros[..4 * shape[0] * shape[1]];
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        (name, view.unwrap())
    });
    let pair = safetensors::serialize(views, None).unwrap();
    for bits in [2, 3, 4, 5, 6, 8] {
        let affine = AffineQuantization { bits, group: 32 };
        let most = (1_u32 << bits) - 1;
        // Both ends of the range are in every group, so its levels are met exactly.
        let level = |i: u32| match i % 32 {
            0 => 0,
            1 => most,
            _ => i * 5 % (most + 1),
        };
        let values: Vec<f32> = (0..4 * 64).map(|i| level(i) as f32 * 0.5 - 3.0).collect();
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let parts = merge::quantised(affine, Float::F32, &[4, 64], &data);
        let [packed, scales, biases] = parts.map(Bytes::new);
        let matrix = HostMatrix {
            rows: 4,
            cols: 64,
            storage: Storage::Affine {
                affine,
                packed,
                float: Float::F32,
                scales,
                biases,
            },
        };
        let mut adapter = read(MLX, &mlx_config(), pair.clone()).unwrap();
        let merged = adapter.merged("m", matrix).unwrap().on_cpu(&cpu.pool);
        let mut found = vec![0.0; values.len()];
        cpu::gather(&cpu, merged.view(), &[0, 1, 2, 3], &mut found);
        assert_eq!(found, values, "{bits} bits");
    }
}

proptest! {
    /// Whatever stands in a settings file, reading it ends, and what is taken can be used.
    #[test]
    fn any_settings_are_taken_or_refused(
        field in prop::sample::select(vec![
            "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias", "modules_to_save", "peft_type",
            "fine_tune_type", "lora_parameters", "init_lora_weights", "target_modules", "use_dora", "x",
        ]),
        value in prop_oneof![
            Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from), ".{0,200}".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::from),
            (".{0,9}", any::<i32>()).prop_map(|(key, value)| json!({ key: value })),
            (any::<u32>(), any::<f64>()).prop_map(|(rank, scale)| json!({ "rank": rank, "scale": scale })),
        ],
    ) {
        for (layout, config) in [(AdapterLayout::Mlx, mlx_config()), (AdapterLayout::Peft, peft_config())] {
            let json = changed(config, field, value.clone()).to_string();
            match Config::parse(layout, json.as_bytes()) {
                Ok(config) => {
                    if let Ok((rank, scale)) = config.of("model.layers.0.self_attn.q_proj") {
                        prop_assert!(rank > 0 && scale.is_normal());
                    }
                }
                Err(error) => prop_assert!(error.to_string().contains(field), "{error}"),
            }
        }
    }

    /// No bytes make it panic, whether or not they begin as an adapter's do; what is taken merges or is refused.
    #[test]
    fn any_bytes_are_no_panic(
        config in prop_oneof![Just(mlx_config().to_string()), ".{0,60}"],
        junk in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        shapes in prop::array::uniform2(prop::collection::vec(0usize..5, 0..4)),
    ) {
        let source = AdapterSource { name: "new".parse().unwrap(), folder: "new".into() };
        let mut mutated = weights(&[("m.lora_a", &shapes[0]), ("m.lora_b", &shapes[1])]);
        for (at, byte) in changes {
            let at = at.index(mutated.len());
            mutated[at] = byte;
        }
        for weights in [junk, mutated] {
            let files = [("adapter_config.json", config.clone().into_bytes()), (MLX, weights)];
            if let Ok(mut adapter) = source.read(&Files::memory(files)) {
                let _ = adapter.merged("m", zeros(shapes[1].last().copied().unwrap_or(1), shapes[0].first().copied().unwrap_or(1)));
            }
        }
    }
}
