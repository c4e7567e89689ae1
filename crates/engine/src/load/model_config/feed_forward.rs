//! The feed-forward part of the layers: one block for all tokens, or a mixture of experts.
//!
//! transformers and mlx-lm read `norm_topk_prob`, `decoder_sparse_step` and `mlp_only_layers` of older mixtures differently, or not
//! at all: values that would change anything are refused. `intermediate_size` means nothing in a mixture.

use sanctum_kernels::ExpertDims;

use super::error::{ConfigError, unsupported};
use super::fields::Fields;
use super::refused::{Neutral, refuse};
use super::sizes::{LARGEST_SIZE, size, within};

/// What follows the mixer in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward {
    /// One gated block for all tokens.
    Dense {
        /// Its width.
        intermediate: usize,
    },
    /// A router sends each token to a few of many experts.
    Experts(ExpertDims),
}

/// Keys of other mixtures, and the values with which they change nothing.
const MIXTURE_KEYS: [(&str, Neutral, &str); 10] = [
    ("norm_topk_prob", Neutral::On, NORMALISED),
    ("decoder_sparse_step", Neutral::One, EVERY_LAYER),
    ("mlp_only_layers", Neutral::Off, EVERY_LAYER),
    ("first_k_dense_replace", Neutral::Off, EVERY_LAYER),
    ("moe_layer_freq", Neutral::One, EVERY_LAYER),
    ("n_group", Neutral::One, NO_GROUPS),
    ("topk_group", Neutral::One, NO_GROUPS),
    ("routed_scaling_factor", Neutral::One, UNSCALED),
    ("scoring_func", Neutral::Words(&["softmax"]), SOFTMAX),
    ("router_scoring_func", Neutral::Words(&["softmax"]), SOFTMAX),
];

const NORMALISED: &str = "the weights of a token's experts always add up to 1 in Qwen3.5";
const EVERY_LAYER: &str = "every layer of Qwen3.5's mixtures has experts";
const NO_GROUPS: &str = "experts are not chosen by groups in Qwen3.5";
const UNSCALED: &str = "Qwen3.5 has no such factor, and this engine does not apply one";
const SOFTMAX: &str = "the router of Qwen3.5 is a softmax";

impl FeedForward {
    /// Checks that the model is one of the two kinds.
    pub(super) fn check(fields: &Fields) -> Result<(), ConfigError> {
        let model_type = fields.text("model_type")?.unwrap_or("missing");
        match model_type {
            "qwen3_5" | "qwen3_5_text" | "qwen3_5_moe" | "qwen3_5_moe_text" => Ok(()),
            other => Err(unsupported(
                "model_type",
                other,
                "this server computes Qwen3.5 models: qwen3_5 (dense) and qwen3_5_moe (mixture of experts), with or without _text",
            )),
        }
    }

    pub(super) fn parse(fields: &Fields) -> Result<Self, ConfigError> {
        let model_type = fields.text("model_type")?.unwrap_or_default();
        if !model_type.starts_with("qwen3_5_moe") {
            let wanted =
                "a mixture of experts has the model_type qwen3_5_moe; copy config.json again";
            refuse(fields, &[("num_experts", Neutral::Off, wanted)])?;
            let intermediate = size(fields, "intermediate_size", LARGEST_SIZE)?;
            return Ok(Self::Dense { intermediate });
        }
        refuse(fields, &MIXTURE_KEYS)?;
        let shared = "shared_expert_intermediate_size";
        let shared_size = fields.required_size(shared)?;
        if shared_size > 0 {
            within(shared, shared_size, LARGEST_SIZE)?;
        }
        Ok(Self::Experts(ExpertDims::new(
            size(fields, "num_experts", LARGEST_SIZE)?,
            size(fields, "num_experts_per_tok", LARGEST_SIZE)?,
            size(fields, "moe_intermediate_size", LARGEST_SIZE)?,
            shared_size,
        )?))
    }
}
