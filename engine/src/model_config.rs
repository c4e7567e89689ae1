//! `config.json` of a Qwen3.5 checkpoint, parsed into what the graph needs.
//!
//! Published checkpoints come in two forms: flat, and nested, where a vision model keeps its language model's
//! fields under `text_config`. Both are read by laying the root's keys over those of `text_config`. Every other
//! quirk of the file is settled here too, so the graph sees plain numbers.

use std::collections::BTreeMap;

use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, DimsError};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The shape of a model, checked for consistency.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layers.
    pub intermediate: usize,
    /// What each layer mixes tokens with, in order.
    pub layers: Vec<Mixer>,
    /// Tokens in the vocabulary, padding rows included.
    pub vocab: usize,
    /// Positions that the model was trained for.
    pub context: usize,
    /// Added to the mean square in every RMS norm.
    pub rms_eps: f32,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
    /// The full-attention layers' heads.
    pub attention: AttentionDims,
    /// Base of their rotary frequencies.
    pub rope_theta: f64,
    /// Whether their projections carry a bias.
    pub attention_bias: bool,
    /// The linear-attention layers' heads.
    pub delta: DeltaDims,
    /// Their convolution.
    pub conv: ConvDims,
    /// How the matrices are stored.
    pub quantization: Quantization,
    /// `eos_token_id`, used where `generation_config.json` names none.
    pub eos: Vec<u32>,
}

/// What a layer mixes tokens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Softmax attention over all earlier positions.
    Attention,
    /// The gated delta rule: a recurrent state of fixed size.
    Delta,
}

/// How matrices that have scales are quantised (MLX's affine form): `w = scale * q + bias` a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantization {
    /// What holds unless a module is named in `modules`.
    pub default: Option<Affine>,
    /// Exceptions by module name, prefixes removed as for tensors; `None`: not quantised.
    pub modules: BTreeMap<String, Option<Affine>>,
}

/// Parameters of an affine quantisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affine {
    /// 4 or 8.
    pub bits: u8,
    /// Consecutive weights of a row that share a scale and a bias: 32, 64 or 128.
    pub group: usize,
}

/// Why a `config.json` cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON, or a field has the wrong type or is missing.
    #[error("config.json: {0}")]
    Json(#[from] serde_json::Error),
    /// It describes something that this engine does not compute.
    #[error("config.json: {field} is {found}; {wanted}")]
    Unsupported {
        /// The offending field.
        field: String,
        /// Its value.
        found: String,
        /// What would do.
        wanted: String,
    },
    /// The heads of the attention layers cannot be computed.
    #[error("config.json: {0}")]
    Dims(#[from] DimsError),
}

fn unsupported(
    field: impl Into<String>,
    found: impl ToString,
    wanted: impl Into<String>,
) -> ConfigError {
    ConfigError::Unsupported {
        field: field.into(),
        found: found.to_string(),
        wanted: wanted.into(),
    }
}

/// The fields as the file spells them. Unknown ones are legion and carry no meaning for the graph.
#[derive(Deserialize)]
struct Raw {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    rms_norm_eps: f32,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    attn_output_gate: Option<bool>,
    hidden_act: Option<String>,
    linear_num_value_heads: usize,
    linear_num_key_heads: usize,
    linear_key_head_dim: usize,
    linear_value_head_dim: usize,
    #[serde(default = "default_conv_kernel")]
    linear_conv_kernel_dim: usize,
    full_attention_interval: Option<usize>,
    layer_types: Option<Vec<String>>,
    num_experts: Option<usize>,
    rope_parameters: Option<Map<String, Value>>,
    rope_scaling: Option<Map<String, Value>>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    quantization: Option<Map<String, Value>>,
    quantization_config: Option<Map<String, Value>>,
    eos_token_id: Option<Eos>,
}

fn default_eps() -> f32 {
    1e-6
}

fn default_conv_kernel() -> usize {
    4
}

/// End-of-sequence ids, which files give as one number or as a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`eos_token_id` must be a token id or a list of token ids"
)]
pub(crate) enum Eos {
    One(u32),
    Many(Vec<u32>),
}

impl Eos {
    pub(crate) fn into_ids(self) -> Vec<u32> {
        match self {
            Eos::One(id) => vec![id],
            Eos::Many(ids) => ids,
        }
    }
}

/// Sizes beyond this are not models but damage; the products below stay far from overflow.
const LARGEST_SIZE: usize = 1 << 20;
/// A recurrent state is heads times key times value dimensions, and no tensor of the file is as large; published models
/// have 64 heads of 128, or 16 of 256.
const LARGEST_HEAD: usize = 512;

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If it is not a Qwen3.5 language model that this engine computes; the error names the field.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let mut root: Map<String, Value> = serde_json::from_slice(json)?;
        let merged = match root.remove("text_config") {
            Some(Value::Object(mut text)) => {
                // A null at the root says nothing.
                text.extend(root.into_iter().filter(|(_, value)| !value.is_null()));
                text
            }
            None | Some(Value::Null) => root,
            Some(other) => {
                return Err(unsupported("text_config", other, "it must be an object"));
            }
        };
        Self::from_raw(serde_json::from_value(Value::Object(merged))?)
    }

    fn from_raw(raw: Raw) -> Result<Self, ConfigError> {
        if !matches!(raw.model_type.as_str(), "qwen3_5" | "qwen3_5_text") {
            return Err(unsupported(
                "model_type",
                &raw.model_type,
                "this server computes dense Qwen3.5 models (qwen3_5 or qwen3_5_text)",
            ));
        }
        if let Some(experts) = raw.num_experts.filter(|&n| n > 0) {
            return Err(unsupported(
                "num_experts",
                experts,
                "mixture-of-experts models are not supported yet",
            ));
        }
        if raw.attn_output_gate == Some(false) {
            return Err(unsupported(
                "attn_output_gate",
                false,
                "only gated attention is supported",
            ));
        }
        if let Some(act) = raw
            .hidden_act
            .as_deref()
            .filter(|act| !matches!(*act, "silu" | "swish"))
        {
            return Err(unsupported("hidden_act", act, "only silu is supported"));
        }
        let layers = mixers(&raw)?;
        let (rope_theta, rotary_factor) = rope(&raw)?;
        let head_dim = raw
            .head_dim
            .unwrap_or(raw.hidden_size / raw.num_attention_heads.max(1));
        let sizes = [
            ("hidden_size", raw.hidden_size),
            ("intermediate_size", raw.intermediate_size),
            ("num_hidden_layers", raw.num_hidden_layers),
            ("num_attention_heads", raw.num_attention_heads),
            ("num_key_value_heads", raw.num_key_value_heads),
            ("head_dim", head_dim),
            ("vocab_size", raw.vocab_size),
            ("max_position_embeddings", raw.max_position_embeddings),
            ("linear_num_value_heads", raw.linear_num_value_heads),
            ("linear_num_key_heads", raw.linear_num_key_heads),
            ("linear_key_head_dim", raw.linear_key_head_dim),
            ("linear_value_head_dim", raw.linear_value_head_dim),
            ("linear_conv_kernel_dim", raw.linear_conv_kernel_dim),
        ];
        for (field, size) in sizes {
            if size == 0 || size > LARGEST_SIZE {
                return Err(unsupported(
                    field,
                    size,
                    format!("it must be between 1 and {LARGEST_SIZE}"),
                ));
            }
        }
        for (field, size) in [
            ("head_dim", head_dim),
            ("linear_key_head_dim", raw.linear_key_head_dim),
            ("linear_value_head_dim", raw.linear_value_head_dim),
            ("linear_num_value_heads", raw.linear_num_value_heads),
        ] {
            if size > LARGEST_HEAD {
                return Err(unsupported(
                    field,
                    size,
                    format!(
                        "it must be between 1 and {LARGEST_HEAD}: a sequence's memory grows with it"
                    ),
                ));
            }
        }
        if !(raw.rms_norm_eps > 0.0 && raw.rms_norm_eps < 1.0) {
            return Err(unsupported(
                "rms_norm_eps",
                raw.rms_norm_eps,
                "it must be between 0 and 1, both excluded",
            ));
        }
        let rotary_dim = (head_dim as f64 * rotary_factor) as usize;
        let attention = AttentionDims::new(
            raw.num_attention_heads,
            raw.num_key_value_heads,
            head_dim,
            rotary_dim,
        )?;
        let delta = DeltaDims::new(
            raw.linear_num_key_heads,
            raw.linear_num_value_heads,
            raw.linear_key_head_dim,
            raw.linear_value_head_dim,
        )?;
        let conv = ConvDims::new(delta.qkv_len(), raw.linear_conv_kernel_dim)?;
        let quantization = Quantization::parse(raw.quantization, raw.quantization_config)?;
        Ok(Self {
            hidden: raw.hidden_size,
            intermediate: raw.intermediate_size,
            layers,
            vocab: raw.vocab_size,
            context: raw.max_position_embeddings,
            rms_eps: raw.rms_norm_eps,
            tied: raw.tie_word_embeddings,
            attention,
            rope_theta,
            attention_bias: raw.attention_bias,
            delta,
            conv,
            quantization,
            eos: raw.eos_token_id.map(Eos::into_ids).unwrap_or_default(),
        })
    }
}

/// The mixer of each layer, from `layer_types` or from `full_attention_interval` (4 where neither is given).
fn mixers(raw: &Raw) -> Result<Vec<Mixer>, ConfigError> {
    let count = raw.num_hidden_layers;
    if count > 4096 {
        return Err(unsupported(
            "num_hidden_layers",
            count,
            "up to 4096 layers are supported",
        ));
    }
    let Some(types) = &raw.layer_types else {
        let interval = raw.full_attention_interval.unwrap_or(4);
        if interval == 0 {
            return Err(unsupported(
                "full_attention_interval",
                0,
                "it must be at least 1",
            ));
        }
        return Ok((1..=count)
            .map(|layer| {
                if layer % interval == 0 {
                    Mixer::Attention
                } else {
                    Mixer::Delta
                }
            })
            .collect());
    };
    if types.len() != count {
        return Err(unsupported(
            "layer_types",
            format!("a list of {}", types.len()),
            format!("num_hidden_layers is {count}"),
        ));
    }
    types
        .iter()
        .map(|kind| match kind.as_str() {
            "full_attention" => Ok(Mixer::Attention),
            "linear_attention" => Ok(Mixer::Delta),
            other => Err(unsupported(
                "layer_types",
                other,
                "only full_attention and linear_attention are supported",
            )),
        })
        .collect()
}

/// Base and rotated share of the rotary embedding, from `rope_parameters` or the older fields of the root.
fn rope(raw: &Raw) -> Result<(f64, f64), ConfigError> {
    let empty = Map::new();
    let rope = raw
        .rope_parameters
        .as_ref()
        .or(raw.rope_scaling.as_ref())
        .unwrap_or(&empty);
    let kind = rope
        .get("rope_type")
        .or(rope.get("type"))
        .and_then(Value::as_str)
        .unwrap_or("default");
    // Multi-dimensional sections (mrope) reduce to the plain rotation for text, whose three positions are equal.
    if !matches!(kind, "default" | "mrope") {
        return Err(unsupported(
            "rope_parameters.rope_type",
            kind,
            "only the default rotary embedding is supported",
        ));
    }
    let number = |key: &str| rope.get(key).and_then(Value::as_f64);
    // The reference implementations disagree about a default, so there is none.
    let theta = number("rope_theta").or(raw.rope_theta).ok_or_else(|| {
        unsupported(
            "rope_theta",
            "missing",
            "add it to rope_parameters, as published checkpoints do",
        )
    })?;
    let factor = number("partial_rotary_factor")
        .or(raw.partial_rotary_factor)
        .unwrap_or(0.25);
    if !(theta.is_finite() && theta > 1.0) {
        return Err(unsupported("rope_theta", theta, "it must be above 1"));
    }
    if !(0.0..=1.0).contains(&factor) {
        return Err(unsupported(
            "partial_rotary_factor",
            factor,
            "it must be between 0 and 1",
        ));
    }
    Ok((theta, factor))
}

impl Quantization {
    /// From `quantization` as MLX writes it; `quantization_config` is its copy, or another tool's scheme.
    fn parse(
        mlx: Option<Map<String, Value>>,
        other: Option<Map<String, Value>>,
    ) -> Result<Self, ConfigError> {
        if let Some(method) = other.as_ref().and_then(|other| other.get("quant_method")) {
            return Err(unsupported(
                "quantization_config.quant_method",
                method,
                "only MLX's affine quantisation is supported; convert with mlx_lm.convert",
            ));
        }
        let Some(fields) = mlx.or(other) else {
            return Ok(Self::default());
        };
        let default = Affine::parse("quantization", &fields)?;
        let mut modules = BTreeMap::new();
        for (name, value) in &fields {
            let field = format!("quantization.{name}");
            let exception = match value {
                Value::Object(fields) => Some(Affine::parse(&field, fields)?),
                Value::Bool(false) => None,
                Value::Bool(true) => Some(default),
                _ => continue, // group_size, bits, mode
            };
            modules.insert(crate::checkpoint::canonical_name(name), exception);
        }
        Ok(Self {
            default: Some(default),
            modules,
        })
    }

    /// How a module's matrix is quantised if it has scales.
    pub fn of(&self, module: &str) -> Option<Affine> {
        *self.modules.get(module).unwrap_or(&self.default)
    }
}

impl Affine {
    fn parse(field: &str, fields: &Map<String, Value>) -> Result<Self, ConfigError> {
        let mode = fields
            .get("mode")
            .and_then(Value::as_str)
            .unwrap_or("affine");
        if mode != "affine" {
            return Err(unsupported(
                format!("{field}.mode"),
                mode,
                "only affine is supported",
            ));
        }
        let number = |key: &str| {
            let value = fields.get(key).unwrap_or(&Value::Null);
            value
                .as_u64()
                .ok_or_else(|| unsupported(format!("{field}.{key}"), value, "it must be a number"))
        };
        let (bits, group) = (number("bits")?, number("group_size")?);
        if !matches!(bits, 4 | 8) {
            return Err(unsupported(
                format!("{field}.bits"),
                bits,
                "4 and 8 are supported",
            ));
        }
        if !matches!(group, 32 | 64 | 128) {
            return Err(unsupported(
                format!("{field}.group_size"),
                group,
                "32, 64 and 128 are supported",
            ));
        }
        Ok(Self {
            bits: bits as u8,
            group: group as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let affine = |bits, group| Some(Affine { bits, group });
        assert_eq!(config.quantization.of("lm_head"), affine(8, 32));
        assert_eq!(config.quantization.of("model.embed_tokens"), None);
        assert_eq!(
            config.quantization.of("model.layers.0.mlp.up_proj"),
            affine(4, 64)
        );
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
                json!({"rope_type": "yarn"}),
                "rope_type is yarn",
            ),
            (
                "quantization",
                json!({"group_size": 64, "bits": 3}),
                "quantization.bits is 3",
            ),
            (
                "quantization",
                json!({"group_size": 16, "bits": 4}),
                "group_size is 16",
            ),
            (
                "quantization",
                json!({"group_size": 32, "bits": 4, "mode": "mxfp4"}),
                "mode is mxfp4",
            ),
            (
                "quantization_config",
                json!({"quant_method": "awq"}),
                "quant_method is \"awq\"",
            ),
            ("layer_types", json!(["linear_attention"]), "layer_types"),
            ("vocab_size", json!(0), "vocab_size is 0"),
            ("head_dim", json!(1u64 << 40), "head_dim is"),
            ("hidden_size", json!("wide"), "invalid type"),
        ] {
            let mut config = flat();
            config[key] = value;
            let error = parse(&config).unwrap_err().to_string();
            assert!(error.contains(names), "{key}: {error}");
        }
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
}
