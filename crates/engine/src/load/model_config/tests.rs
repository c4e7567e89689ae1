//! `config.json` in its forms, and what is refused by name.

mod rope;

use super::*;
use sanctum_kernels::ExpertDims;
use sanctum_kernels::cpu::BlockFormat;
use serde_json::json;

fn flat() -> Value {
    json!({
        "model_type": "qwen3_5_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 5,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 100,
        "max_position_embeddings": 512, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
        "linear_key_head_dim": 32, "linear_value_head_dim": 16, "rope_parameters": {"rope_theta": 10000.0},
        "quantization": {"group_size": 64, "bits": 4, "language_model.lm_head": {"group_size": 32, "bits": 8},
                         "model.embed_tokens": false},
        "eos_token_id": [7, 9]
    })
}

fn mixture() -> Value {
    let mut config = flat();
    config["model_type"] = json!("qwen3_5_moe_text");
    config.as_object_mut().unwrap().remove("intermediate_size");
    for (key, value) in [
        ("num_experts", 6),
        ("num_experts_per_tok", 2),
        ("moe_intermediate_size", 32),
        ("shared_expert_intermediate_size", 64),
    ] {
        config[key] = json!(value);
    }
    config
}

fn parse(value: &Value) -> Result<ModelConfig, ConfigError> {
    ModelConfig::parse(value.to_string().as_bytes())
}

#[test]
fn a_flat_config_is_read_with_its_defaults() {
    let config = parse(&flat()).unwrap();
    assert_eq!(config.layers[3], Mixer::Attention);
    assert_eq!(
        config.layers.iter().filter(|m| **m == Mixer::Delta).count(),
        4
    );
    assert_eq!(config.attention.rotary_dim, 8);
    assert_eq!(config.conv.channels, 2 * 64 + 64);
    assert_eq!(config.eos, [7, 9]);
    let (bits, group) = (8, 32);
    let of = |module| config.quantization.of(module);
    assert_eq!(
        of("lm_head"),
        Packing::Named(ModuleQuantization::Affine(AffineQuantization {
            bits,
            group
        }))
    );
    assert_eq!(of("model.embed_tokens"), Packing::Plain);
    assert_eq!(of("model.layers.0.mlp.up_proj"), Packing::FromShapes);
}

/// As in mlx-lm, a module without a mode is affine, whatever the model's mode is.
#[test]
fn modes_of_blocks_are_read() {
    let mut config = flat();
    config["quantization"] = json!({
        "group_size": 32, "bits": 4, "mode": "mxfp4",
        "model.layers.0.mlp.gate": {"group_size": 64, "bits": 8},
        "language_model.lm_head": {"mode": "mxfp8"},
    });
    let config = parse(&config).unwrap();
    let of = |module| config.quantization.of(module);
    assert_eq!(of("model.embed_tokens"), Packing::FromShapes);
    let blocks = ModuleQuantization::Blocks(BlockFormat::MxFp8);
    assert_eq!(of("lm_head"), Packing::Named(blocks));
    let (bits, group) = (8, 64);
    let affine = ModuleQuantization::Affine(AffineQuantization { bits, group });
    assert_eq!(of("model.layers.0.mlp.gate"), Packing::Named(affine));
}

#[test]
fn mixture_is_read_flat_and_nested() {
    let experts = |shared| FeedForward::Experts(ExpertDims::new(6, 2, 32, shared).unwrap());
    assert_eq!(parse(&mixture()).unwrap().feed_forward, experts(64));
    let nested = json!({"model_type": "qwen3_5_moe", "text_config": mixture()});
    assert_eq!(parse(&nested).unwrap().feed_forward, experts(64));
    // What the released files have or leave out, and the neutral values of older mixtures.
    for (key, value) in [
        ("intermediate_size", json!(null)),
        ("intermediate_size", json!(96)),
        ("mlp_only_layers", json!([])),
        ("decoder_sparse_step", json!(1)),
        ("norm_topk_prob", json!(true)),
        ("router_aux_loss_coef", json!(0.001)),
        ("output_router_logits", json!(false)),
        ("routed_scaling_factor", json!(1.0)),
    ] {
        let mut config = mixture();
        config[key] = value;
        assert_eq!(parse(&config).unwrap().feed_forward, experts(64), "{key}");
    }
    let mut config = mixture();
    config["shared_expert_intermediate_size"] = json!(0);
    assert_eq!(parse(&config).unwrap().feed_forward, experts(0));
    let intermediate = 128;
    assert_eq!(
        parse(&flat()).unwrap().feed_forward,
        FeedForward::Dense { intermediate }
    );
}

#[test]
fn mixture_that_is_computed_differently_is_refused_by_name() {
    for (key, value, names) in [
        ("decoder_sparse_step", json!(2), "decoder_sparse_step is 2"),
        ("mlp_only_layers", json!([0]), "mlp_only_layers is [0]"),
        ("norm_topk_prob", json!(false), "norm_topk_prob is false"),
        ("n_group", json!(4), "n_group is 4"),
        (
            "routed_scaling_factor",
            json!(2.5),
            "routed_scaling_factor is 2.5",
        ),
        ("scoring_func", json!("sigmoid"), "scoring_func is sigmoid"),
        ("num_experts", json!(null), "num_experts is missing"),
        ("num_experts", json!(0), "num_experts is 0"),
        ("num_experts_per_tok", json!(7), "num_experts_per_tok is 7"),
        (
            "num_experts_per_tok",
            json!(null),
            "num_experts_per_tok is missing",
        ),
        (
            "moe_intermediate_size",
            json!(null),
            "moe_intermediate_size is missing",
        ),
        (
            "shared_expert_intermediate_size",
            json!(null),
            "shared_expert_intermediate_size is missing",
        ),
        ("n_routed_experts", json!(6), "n_routed_experts is 6"),
        ("model_type", json!("qwen3_5_text"), "num_experts is 6"),
        ("model_type", json!("qwen3_moe"), "model_type is qwen3_moe"),
    ] {
        let mut config = mixture();
        config[key] = value;
        let error = parse(&config).unwrap_err().to_string();
        assert!(error.contains(names), "{key}: {error}");
    }
}

#[test]
fn root_keys_win_over_text_config() {
    let mut text = flat();
    text["hidden_size"] = json!(32);
    text["vocab_size"] = json!(7);
    let nested = json!({"model_type": "qwen3_5", "text_config": text, "vocab_size": 99, "hidden_size": null});
    let config = parse(&nested).unwrap();
    assert_eq!(config.vocab, 99);
    assert_eq!(config.hidden, 32);
}

#[test]
fn what_is_not_supported_is_named() {
    for (key, value, names) in [
        ("model_type", json!("llama"), "model_type is llama"),
        ("num_experts", json!(8), "num_experts is 8"),
        ("hidden_act", json!("gelu"), "hidden_act is gelu"),
        ("num_key_value_heads", json!(3), "4 query heads"),
        (
            "rope_parameters",
            json!({"rope_theta": 1e4, "rope_type": "longrope"}),
            "rope_parameters.rope_type is longrope",
        ),
        (
            "quantization",
            json!({"group_size": 64, "bits": 7}),
            "quantization.bits is 7",
        ),
        (
            "quantization",
            json!({"group_size": 16, "bits": 4}),
            "group_size is 16",
        ),
        (
            "quantization",
            json!({"group_size": 32, "bits": 4, "mode": "mxint4"}),
            "mode is mxint4",
        ),
        (
            "quantization",
            json!({"group_size": 64, "bits": 4, "mode": "mxfp4"}),
            "quantization.group_size is 64; mxfp4 has 32",
        ),
        (
            "quantization",
            json!({"mode": "nvfp4", "lm_head": {"mode": "nvfp4", "global_scale": true}}),
            "quantization.lm_head.global_scale is true",
        ),
        (
            "quantization_config",
            json!({"quant_method": "awq"}),
            "quant_method is \"awq\"",
        ),
        ("layer_types", json!(["linear_attention"]), "layer_types"),
        ("vocab_size", json!(0), "vocab_size is 0"),
        ("head_dim", json!(1u64 << 40), "head_dim is"),
        ("hidden_size", json!("wide"), "hidden_size is wide"),
        (
            "intermediate_size",
            json!(null),
            "intermediate_size is missing",
        ),
        ("num_hidden_layers", json!(-3), "num_hidden_layers is -3"),
        (
            "tie_word_embeddings",
            json!("NaN"),
            "tie_word_embeddings is",
        ),
        ("eos_token_id", json!([1, "2"]), "eos_token_id is [1,\"2\"]"),
        ("sliding_window", json!(128), "sliding_window is 128"),
        (
            "use_sliding_window",
            json!(true),
            "use_sliding_window is true",
        ),
        (
            "final_logit_softcapping",
            json!(30.0),
            "final_logit_softcapping is 30.0",
        ),
        (
            "attn_logit_softcapping",
            json!(50),
            "attn_logit_softcapping is 50",
        ),
        ("output_gate_type", json!("sigmoid"), "output_gate_type is"),
        (
            "attn_output_gate",
            json!(false),
            "attn_output_gate is false",
        ),
        (
            "query_pre_attn_scalar",
            json!(256),
            "query_pre_attn_scalar is 256",
        ),
        ("logits_scaling", json!(8), "logits_scaling is 8"),
        ("rope_interleaved", json!(true), "rope_interleaved is true"),
    ] {
        let mut config = flat();
        config[key] = value;
        let error = parse(&config).unwrap_err().to_string();
        assert!(error.contains(names), "{key}: {error}");
    }
}

#[test]
fn keys_that_change_nothing_are_passed_over() {
    let mut config = flat();
    for (key, value) in [
        ("sliding_window", json!(4096)),
        ("sliding_window", json!(null)),
        ("use_sliding_window", json!(false)),
        ("max_window_layers", json!(28)),
        ("num_experts", json!(0)),
        ("mlp_only_layers", json!([])),
        ("hidden_act", json!("silu")),
        ("output_gate_type", json!("swish")),
        ("attn_output_gate", json!(true)),
        ("final_logit_softcapping", json!(null)),
        ("query_pre_attn_scalar", json!(32)),
        ("mamba_ssm_dtype", json!("float32")),
        ("attention_dropout", json!(0.1)),
        ("mtp_num_hidden_layers", json!(1)),
    ] {
        config[key] = value;
        parse(&config).unwrap();
    }
    // With use_sliding_window beside it a window is only a number.
    config["sliding_window"] = json!(128);
    parse(&config).unwrap();
}

#[test]
fn end_of_sequence_is_the_union_of_both_levels() {
    let mut text = flat();
    text["eos_token_id"] = json!(7);
    let of = |root: Value| {
        let nested = json!({"model_type": "qwen3_5", "text_config": text, "eos_token_id": root});
        parse(&nested).unwrap().eos
    };
    assert_eq!(of(json!(null)), [7]);
    assert_eq!(of(json!(9)), [9, 7]);
    assert_eq!(of(json!([7, 8])), [7, 8]);
}

proptest::proptest! {
    #[test]
    fn damage_is_an_error_and_not_a_panic(at in 0usize..900, byte: u8) {
        let mut json = flat().to_string().into_bytes();
        let at = at % json.len();
        json[at] = byte;
        let _ = ModelConfig::parse(&json);
    }
}
