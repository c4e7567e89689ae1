//! `config.json` of a Qwen3.5 checkpoint, parsed into what the graph needs.
//!
//! Published checkpoints come in two forms: flat, and nested, where a vision model keeps its language model's
//! fields under `text_config`. Both are read by laying the root's keys over those of `text_config`. Every other
//! quirk of the file is settled here too, so the graph sees plain numbers. A key that would change the result is
//! honoured ([`ModelConfig`]) or refused by its name (`refused`, `rope`).

mod error;
mod feed_forward;
mod fields;
mod quantization;
mod refused;
mod rope;
mod sizes;
#[cfg(test)]
mod tests;

use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, Rope, RopeScaling};
use serde_json::{Map, Value};

pub use error::ConfigError;
pub use feed_forward::FeedForward;
pub use quantization::{AffineQuantization, ModuleQuantization, Packing, Quantization};

pub(crate) use fields::token_ids;

use crate::json;
use error::unsupported;
use fields::Fields;
use sizes::{LARGEST_HEAD, LARGEST_SIZE, size, within};

/// The shape of a model, checked for consistency.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// What follows the mixer in every layer.
    pub feed_forward: FeedForward,
    /// What each layer mixes tokens with, in order.
    pub layers: Vec<Mixer>,
    /// Tokens in the vocabulary, padding rows included.
    pub vocab: usize,
    /// Positions that the model was trained for, or to which its rotary embedding is stretched.
    pub context: usize,
    /// Added to the mean square in every RMS norm.
    pub rms_eps: f32,
    /// Whether the embedding may also be the output matrix. Only where every level of the file that has
    /// `tie_word_embeddings` says false may it not; otherwise the tensors decide.
    pub tied: bool,
    /// The full-attention layers' heads.
    pub attention: AttentionDims,
    /// Base of their rotary frequencies.
    pub rope_theta: f64,
    /// How these are stretched for contexts beyond those of training.
    pub rope_scaling: RopeScaling,
    /// Whether their projections carry a bias.
    pub attention_bias: bool,
    /// The linear-attention layers' heads.
    pub delta: DeltaDims,
    /// Their convolution.
    pub conv: ConvDims,
    /// How the matrices are stored.
    pub quantization: Quantization,
    /// Every `eos_token_id` of the file, the root's first.
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

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If it is not a Qwen3.5 language model that this engine computes; the error names the field.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        let mut root: Map<String, Value> = json::parse(json)?;
        let text = match root.remove("text_config") {
            Some(Value::Object(text)) => text,
            None | Some(Value::Null) => Map::new(),
            Some(other) => {
                return Err(unsupported("text_config", other, "it must be an object"));
            }
        };
        let levels = [
            Fields::root(root.clone()),
            Fields::named("text_config", text.clone()),
        ];
        let mut merged = text;
        // A null at the root says nothing.
        merged.extend(root.into_iter().filter(|(_, value)| !value.is_null()));
        Self::from_levels(&Fields::root(merged), &levels)
    }

    fn from_levels(fields: &Fields, levels: &[Fields]) -> Result<Self, ConfigError> {
        FeedForward::check(fields)?;
        let size = |key: &str, most: usize| size(fields, key, most);
        let hidden = size("hidden_size", LARGEST_SIZE)?;
        let heads = size("num_attention_heads", LARGEST_SIZE)?;
        let head_dim = fields.size("head_dim")?.unwrap_or(hidden / heads);
        within("head_dim", head_dim, LARGEST_HEAD)?;
        let context = size("max_position_embeddings", LARGEST_SIZE)?;
        refused::check(fields, context, head_dim)?;

        let rope = rope::RopeFields::parse(fields)?;
        let attention = AttentionDims::new(
            heads,
            size("num_key_value_heads", LARGEST_SIZE)?,
            head_dim,
            (head_dim as f64 * rope.rotary_factor) as usize,
        )?;
        let delta = DeltaDims::new(
            size("linear_num_key_heads", LARGEST_SIZE)?,
            size("linear_num_value_heads", LARGEST_HEAD)?,
            size("linear_key_head_dim", LARGEST_HEAD)?,
            size("linear_value_head_dim", LARGEST_HEAD)?,
        )?;
        let kernel = fields.size("linear_conv_kernel_dim")?.unwrap_or(4);
        within("linear_conv_kernel_dim", kernel, LARGEST_SIZE)?;
        let rms_eps = fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32;
        if !(rms_eps > 0.0 && rms_eps < 1.0) {
            let wanted = "it must be between 0 and 1, both excluded";
            return Err(fields.wrong("rms_norm_eps", wanted));
        }
        Ok(Self {
            hidden,
            feed_forward: FeedForward::parse(fields)?,
            layers: mixers(fields, size("num_hidden_layers", LARGEST_SIZE)?)?,
            vocab: size("vocab_size", LARGEST_SIZE)?,
            context: rope.context.unwrap_or(0).max(context),
            rms_eps,
            tied: tied(levels)?,
            attention,
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            attention_bias: fields.flag("attention_bias")?.unwrap_or(false),
            delta,
            conv: ConvDims::new(delta.qkv_len(), kernel)?,
            quantization: Quantization::parse(fields)?,
            eos: eos(levels)?,
        })
    }

    /// The rotation of queries and keys.
    pub fn rope(&self) -> Rope {
        Rope::scaled(
            self.attention.rotary_dim,
            self.rope_theta,
            &self.rope_scaling,
        )
    }
}

/// Whether no level says that the output matrix is not the embedding, or one says that it is.
fn tied(levels: &[Fields]) -> Result<bool, ConfigError> {
    let said = levels.iter().map(|level| level.flag("tie_word_embeddings"));
    let said: Vec<bool> = said
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    Ok(said.is_empty() || said.contains(&true))
}

/// Every end of sequence that a level names, each once.
fn eos(levels: &[Fields]) -> Result<Vec<u32>, ConfigError> {
    const KEY: &str = "eos_token_id";
    let mut all = Vec::new();
    for level in levels {
        let value = level.get(KEY).unwrap_or(&Value::Null);
        for id in token_ids(value).map_err(|wanted| level.wrong(KEY, wanted))? {
            if !all.contains(&id) {
                all.push(id);
            }
        }
    }
    Ok(all)
}

/// The mixer of each layer, from `layer_types` or from `full_attention_interval` (4 where neither is given). A file in
/// which they disagree does not fit its tensors one way or the other.
fn mixers(fields: &Fields, count: usize) -> Result<Vec<Mixer>, ConfigError> {
    if count > 4096 {
        return Err(unsupported(
            "num_hidden_layers",
            count,
            "up to 4096 layers are supported",
        ));
    }
    let Some(types) = fields.get("layer_types") else {
        let interval = fields.size("full_attention_interval")?.unwrap_or(4);
        if interval == 0 {
            let wanted = "it must be at least 1";
            return Err(fields.wrong("full_attention_interval", wanted));
        }
        let mixer = |layer: usize| match layer.is_multiple_of(interval) {
            true => Mixer::Attention,
            false => Mixer::Delta,
        };
        return Ok((1..=count).map(mixer).collect());
    };
    let Value::Array(types) = types else {
        return Err(fields.wrong("layer_types", "it must be a list"));
    };
    if types.len() != count {
        return Err(unsupported(
            "layer_types",
            format!("a list of {}", types.len()),
            format!("num_hidden_layers is {count}"),
        ));
    }
    let mixer = |kind: &Value| match kind.as_str() {
        Some("full_attention") => Ok(Mixer::Attention),
        Some("linear_attention") => Ok(Mixer::Delta),
        _ => Err(unsupported(
            "layer_types",
            kind,
            "only full_attention and linear_attention are supported",
        )),
    };
    types.iter().map(mixer).collect()
}
