//! The tensors of a checkpoint, checked and put in their places.
//!
//! Two layouts are published. Hugging Face stores the convolution as `[C, 1, K]` and the norm weights minus one;
//! MLX stores `[C, K, 1]` and plain norms. The convolution's shape tells which one it is, and from here on there is
//! only one. A tensor that is missing, misshapen or left over is an error: a silent mismatch of a name once cost
//! a production system weeks of corrupt answers.

mod error;
mod feed_forward;
mod quantised;

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::Dtype;
use sanctum_kernels::cpu::Float;

pub use error::WeightsError;

use super::adapter::Adapter;
use super::checkpoint::Tensor;
use super::model_config::{Mixer, ModelConfig, Quantization};
use super::weights::{
    AttentionWeights, DeltaWeights, HostExperts, HostMatrix, HostWeights, Layer, MixerWeights,
    Storage, Weights,
};

/// Takes from `tensors` what `config` asks for, and merges the pairs of `adapter` into it, matrix by matrix.
/// Calls `progress(merged, total)` with pairs.
///
/// # Errors
/// If anything is missing, left over, misshapen or of a type that is not supported.
pub(super) fn read(
    config: &ModelConfig,
    tensors: BTreeMap<String, Tensor>,
    adapter: Option<&mut Adapter>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<HostWeights, WeightsError> {
    let conv_is_shifted = |t: &Tensor| {
        t.name.ends_with(".conv1d.weight") && t.shape.last().is_some_and(|&last| last != 1)
    };
    let hugging_face = tensors.values().any(conv_is_shifted);
    if let Some(adapter) = &adapter {
        adapter.fits(|module| tensors.contains_key(&format!("{module}.weight")))?;
    }
    let mut reader = TensorReader {
        tensors,
        quantization: &config.quantization,
        pairs: adapter.as_ref().map_or(0, |adapter| adapter.left()),
        adapter,
        progress,
        norm_shift: if hugging_face { 1.0 } else { 0.0 },
    };
    let weights = reader.model(config)?;
    reader.finish()?;
    Ok(weights)
}

struct TensorReader<'a> {
    tensors: BTreeMap<String, Tensor>,
    quantization: &'a Quantization,
    adapter: Option<&'a mut Adapter>,
    /// Its pairs, merged or not.
    pairs: usize,
    progress: &'a mut dyn FnMut(u64, u64),
    /// Added to the norm weights of this layout.
    norm_shift: f32,
}

impl TensorReader<'_> {
    fn model(&mut self, config: &ModelConfig) -> Result<HostWeights, WeightsError> {
        let embed = self.matrix("model.embed_tokens", config.vocab, config.hidden)?;
        Ok(Weights {
            layers: (0..config.layers.len())
                .map(|index| self.layer(config, index))
                .collect::<Result<_, _>>()?,
            norm: self.norm("model.norm", config.hidden)?,
            head: self.head(config, &embed)?,
            embed,
        })
    }

    /// The output matrix; none if it is the embedding. The tensors decide: exporters leave one level of config.json as
    /// the base model had it, and some write the tied matrix a second time.
    fn head(
        &mut self,
        config: &ModelConfig,
        embed: &HostMatrix,
    ) -> Result<Option<HostMatrix>, WeightsError> {
        if !self.tensors.contains_key("lm_head.weight") {
            return match config.tied {
                true => Ok(None),
                false => Err(WeightsError::NoHead),
            };
        }
        let head = self.matrix("lm_head", config.vocab, config.hidden)?;
        match head.storage == embed.storage {
            true => Ok(None),
            false => Ok(Some(head)),
        }
    }

    fn layer(
        &mut self,
        config: &ModelConfig,
        index: usize,
    ) -> Result<Layer<HostMatrix, HostExperts, Vec<f32>>, WeightsError> {
        let at = |part: &str| format!("model.layers.{index}.{part}");
        let hidden = config.hidden;
        Ok(Layer {
            input_norm: self.norm(&at("input_layernorm"), hidden)?,
            mixer: match config.layers[index] {
                Mixer::Attention => {
                    MixerWeights::Attention(self.attention(config, &at("self_attn"))?)
                }
                Mixer::Delta => MixerWeights::Delta(self.delta(config, &at("linear_attn"))?),
            },
            post_norm: self.norm(&at("post_attention_layernorm"), hidden)?,
            feed_forward: self.feed_forward(config, &at("mlp"))?,
        })
    }

    fn attention(
        &mut self,
        config: &ModelConfig,
        at: &str,
    ) -> Result<AttentionWeights<HostMatrix, Vec<f32>>, WeightsError> {
        let shape = &config.attention;
        let (queries, keys) = (
            shape.heads * shape.head_dim,
            shape.kv_heads * shape.head_dim,
        );
        let hidden = config.hidden;
        let name = |part: &str| format!("{at}.{part}");
        Ok(AttentionWeights {
            q: self.matrix(&name("q_proj"), 2 * queries, hidden)?,
            k: self.matrix(&name("k_proj"), keys, hidden)?,
            v: self.matrix(&name("v_proj"), keys, hidden)?,
            o: self.matrix(&name("o_proj"), hidden, queries)?,
            bias: match config.attention_bias {
                false => None,
                true => Some([
                    self.vector(&name("q_proj.bias"), &[2 * queries])?,
                    self.vector(&name("k_proj.bias"), &[keys])?,
                    self.vector(&name("v_proj.bias"), &[keys])?,
                    self.vector(&name("o_proj.bias"), &[hidden])?,
                ]),
            },
            q_norm: self.norm(&name("q_norm"), shape.head_dim)?,
            k_norm: self.norm(&name("k_norm"), shape.head_dim)?,
        })
    }

    fn delta(
        &mut self,
        config: &ModelConfig,
        at: &str,
    ) -> Result<DeltaWeights<HostMatrix, Vec<f32>>, WeightsError> {
        let shape = &config.delta;
        let (channels, taps) = (config.conv.channels, config.conv.kernel);
        let values = shape.value_heads * shape.value_dim;
        let hidden = config.hidden;
        let name = |part: &str| format!("{at}.{part}");
        // [C, K, 1] and [C, 1, K] lie the same way in memory.
        let conv_shape = match self.norm_shift {
            0.0 => [channels, taps, 1],
            _ => [channels, 1, taps],
        };
        Ok(DeltaWeights {
            qkv: self.matrix(&name("in_proj_qkv"), channels, hidden)?,
            z: self.matrix(&name("in_proj_z"), values, hidden)?,
            b: self.matrix(&name("in_proj_b"), shape.value_heads, hidden)?,
            a: self.matrix(&name("in_proj_a"), shape.value_heads, hidden)?,
            out: self.matrix(&name("out_proj"), hidden, values)?,
            conv: self.vector(&name("conv1d.weight"), &conv_shape)?,
            a_log: self.vector(&name("A_log"), &[shape.value_heads])?,
            dt_bias: self.vector(&name("dt_bias"), &[shape.value_heads])?,
            // The one norm that no layout shifts.
            norm: self.vector(&name("norm.weight"), &[shape.value_dim])?,
        })
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, WeightsError> {
        let tensor = self
            .tensors
            .remove(name)
            .ok_or_else(|| WeightsError::Missing(name.to_owned()))?;
        if tensor.shape != shape {
            return Err(WeightsError::Shape {
                name: tensor.name,
                file: tensor.file,
                found: tensor.shape,
                expected: shape.to_vec(),
            });
        }
        Ok(tensor)
    }

    fn vector(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let tensor = self.take(name, shape)?;
        Ok(match float(&tensor)? {
            Float::F32 => decode(&tensor.bytes, f32::from_le_bytes),
            Float::F16 => decode(&tensor.bytes, |b| f16::from_le_bytes(b).to_f32()),
            Float::Bf16 => decode(&tensor.bytes, |b| bf16::from_le_bytes(b).to_f32()),
        })
    }

    /// The weight of an RMS norm over the residual stream or over a head.
    fn norm(&mut self, module: &str, len: usize) -> Result<Vec<f32>, WeightsError> {
        let mut weight = self.vector(&format!("{module}.weight"), &[len])?;
        weight.iter_mut().for_each(|w| *w += self.norm_shift);
        Ok(weight)
    }

    /// A matrix `[rows, cols]`, with the adapter's pair for it merged.
    fn matrix(
        &mut self,
        module: &str,
        rows: usize,
        cols: usize,
    ) -> Result<HostMatrix, WeightsError> {
        let matrix = self.stored(module, None, rows, cols)?;
        let Some(adapter) = &mut self.adapter else {
            return Ok(matrix);
        };
        let matrix = adapter.merged(module, matrix)?;
        let merged = self.pairs - adapter.left();
        (self.progress)(merged as u64, self.pairs as u64);
        Ok(matrix)
    }

    /// A matrix `[rows, cols]`, or so many of them one below the other as one matrix.
    fn stored(
        &mut self,
        module: &str,
        count: Option<usize>,
        rows: usize,
        cols: usize,
    ) -> Result<HostMatrix, WeightsError> {
        let shape =
            |width: usize| -> Vec<usize> { count.into_iter().chain([rows, width]).collect() };
        let storage = match self.tensors.contains_key(&format!("{module}.scales")) {
            true => self.quantised(module, cols, shape)?,
            false => self.dense(&format!("{module}.weight"), &shape(cols))?,
        };
        Ok(HostMatrix {
            rows: count.unwrap_or(1) * rows,
            cols,
            storage,
        })
    }

    /// Plain numbers.
    fn dense(&mut self, name: &str, shape: &[usize]) -> Result<Storage, WeightsError> {
        let tensor = self.take(name, shape)?;
        Ok(Storage::Dense {
            float: float(&tensor)?,
            data: tensor.bytes,
        })
    }

    /// Refuses tensors that the model does not have.
    fn finish(mut self) -> Result<(), WeightsError> {
        match self.tensors.pop_first() {
            None => Ok(()),
            Some((_, tensor)) => Err(WeightsError::Unused {
                first: tensor.name,
                others: self.tensors.len(),
            }),
        }
    }
}

fn wrong_type(tensor: &Tensor, wanted: &'static str) -> WeightsError {
    WeightsError::Type {
        name: tensor.name.clone(),
        file: tensor.file.clone(),
        found: tensor.dtype,
        wanted,
    }
}

fn decode<const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| number(b)).collect()
}

fn float(tensor: &Tensor) -> Result<Float, WeightsError> {
    match tensor.dtype {
        Dtype::F32 => Ok(Float::F32),
        Dtype::F16 => Ok(Float::F16),
        Dtype::BF16 => Ok(Float::Bf16),
        _ => Err(wrong_type(tensor, "F32, F16 or BF16")),
    }
}
