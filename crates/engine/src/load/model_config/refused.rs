//! Keys of `config.json` that change what a model computes and that this engine does not honour: a model that sets one
//! is refused by the key's name.
//!
//! Known to change nothing here, and passed over: what only training or generation of images reads (`*_dropout`,
//! `initializer_range`, `router_aux_loss_coef`, `output_router_logits`, `vision_config`, `image_token_id` …), `mtp_*`, `dtype` (the tensors say
//! it), `mamba_ssm_dtype` (recurrent states are always f32), `mlp_only_layers` and `decoder_sparse_step` of a dense model,
//! `max_window_layers`, and `mrope_section` and `mrope_interleaved` (the three
//! positions of text are equal).

use serde_json::Value;

use super::error::ConfigError;
use super::fields::Fields;

/// The value with which a key changes nothing.
pub(super) enum Neutral {
    /// false, 0 or nothing in it.
    Off,
    /// true.
    On,
    /// 1.
    One,
    /// One of these words.
    Words(&'static [&'static str]),
}

const SILU: Neutral = Neutral::Words(&["silu", "swish"]);

const KEYS: [(&str, Neutral, &str); 25] = [
    ("num_local_experts", Neutral::Off, MOE),
    ("n_routed_experts", Neutral::Off, MOE),
    (
        "attn_output_gate",
        Neutral::On,
        "only gated attention is supported",
    ),
    ("is_causal", Neutral::On, CAUSAL),
    ("use_bidirectional_attention", Neutral::Off, CAUSAL),
    ("is_encoder_decoder", Neutral::Off, CAUSAL),
    ("hidden_act", SILU, "only silu is supported"),
    ("hidden_activation", SILU, "only silu is supported"),
    (
        "output_gate_type",
        SILU,
        "only silu and swish are supported",
    ),
    ("use_sliding_window", Neutral::Off, WINDOW),
    ("attention_chunk_size", Neutral::Off, WINDOW),
    ("final_logit_softcapping", Neutral::Off, CAP),
    ("attn_logit_softcapping", Neutral::Off, CAP),
    ("logit_softcapping", Neutral::Off, CAP),
    ("logit_scale", Neutral::One, SCALE),
    ("logits_scaling", Neutral::One, SCALE),
    ("lm_head_multiplier", Neutral::One, SCALE),
    ("embedding_multiplier", Neutral::One, SCALE),
    ("scale_emb", Neutral::One, SCALE),
    ("residual_multiplier", Neutral::One, SCALE),
    ("attention_multiplier", Neutral::Off, SCALE),
    ("no_rope_layers", Neutral::Off, ROTATION),
    ("rope_interleave", Neutral::Off, ROTATION),
    ("rope_interleaved", Neutral::Off, ROTATION),
    ("rope_traditional", Neutral::Off, ROTATION),
];

const MOE: &str =
    "Qwen3.5 names its experts num_experts; this is the configuration of another model";
const CAUSAL: &str = "only causal attention of a decoder is supported";
const WINDOW: &str = "full attention over the whole context is all that is supported";
const CAP: &str = "Qwen3.5 does not cap logits, and this engine does not either";
const SCALE: &str = "Qwen3.5 has no such factor, and this engine does not apply one";
const ROTATION: &str = "every attention layer rotates the first half of a head against the second";

/// Refuses each of these keys that has another value than its neutral one.
pub(super) fn refuse(fields: &Fields, keys: &[(&str, Neutral, &str)]) -> Result<(), ConfigError> {
    let changes = |(key, neutral, _): &&(&str, Neutral, &str)| {
        fields.get(key).is_some_and(|value| !neutral.is(value))
    };
    match keys.iter().find(changes) {
        None => Ok(()),
        Some((key, _, wanted)) => Err(fields.wrong(key, wanted)),
    }
}

/// Checks every key of which another value would change the result.
pub(super) fn check(fields: &Fields, context: usize, head_dim: usize) -> Result<(), ConfigError> {
    refuse(fields, &KEYS)?;
    // Qwen's older models write a window and say beside it that it is not used.
    let window = fields.get("sliding_window");
    let unused = fields.flag("use_sliding_window")? == Some(false);
    let narrow = |value: &Value| value.as_u64().is_none_or(|rows| (rows as usize) < context);
    if !unused && window.is_some_and(|window| window != false && narrow(window)) {
        return Err(fields.wrong("sliding_window", WINDOW));
    }
    let scalar = fields.number("query_pre_attn_scalar")?;
    if scalar.is_some_and(|scalar| scalar != head_dim as f64) {
        return Err(fields.wrong("query_pre_attn_scalar", SCALE));
    }
    Ok(())
}

impl Neutral {
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Neutral::Off, Value::Array(list)) => list.is_empty(),
            (Neutral::Off, Value::Object(map)) => map.is_empty(),
            (Neutral::Off, value) => *value == false || value.as_f64() == Some(0.0),
            (Neutral::On, value) => *value == true,
            (Neutral::One, value) => value.as_f64() == Some(1.0),
            (Neutral::Words(words), value) => {
                value.as_str().is_some_and(|word| words.contains(&word))
            }
        }
    }
}
