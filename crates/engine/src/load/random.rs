//! Random weights in production shapes: a model of the right size and speed whose answers are noise.
//!
//! Measurements and load tests need a model of production size more often than good answers.

use std::fmt;
use std::str::FromStr;

use half::bf16;
use sanctum_kernels::cpu::Float;
use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, RopeScaling};

use crate::load::model_config::{AffineQuantization, Mixer, ModelConfig, Quantization};
use crate::load::weights::{
    AttentionWeights, DeltaWeights, HostMatrix, HostWeights, Layer, MixerWeights, Storage, Weights,
};
use sanctum_manifest::Bytes;

/// A published size of Qwen3.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// 0.8 billion parameters.
    B0_8,
    /// 2 billion.
    B2,
    /// 4 billion.
    B4,
    /// 27 billion.
    B27,
}

impl Shape {
    /// Every shape, smallest first.
    pub const ALL: [Shape; 4] = [Shape::B0_8, Shape::B2, Shape::B4, Shape::B27];

    /// Its sizes, as published.
    pub fn config(self) -> ModelConfig {
        let (hidden, intermediate, layers, heads, kv_heads, value_heads, tied) = match self {
            Shape::B0_8 => (1024, 3584, 24, 8, 2, 16, true),
            Shape::B2 => (2048, 6144, 24, 8, 2, 16, true),
            Shape::B4 => (2560, 9216, 32, 16, 4, 32, true),
            Shape::B27 => (5120, 17408, 64, 24, 4, 48, false),
        };
        let delta = DeltaDims::new(16, value_heads, 128, 128).expect(PUBLISHED);
        let mixer = |layer: usize| match layer % 4 {
            3 => Mixer::Attention,
            _ => Mixer::Delta,
        };
        ModelConfig {
            hidden,
            intermediate,
            layers: (0..layers).map(mixer).collect(),
            vocab: 248_320,
            context: 262_144,
            rms_eps: 1e-6,
            tied,
            attention: AttentionDims::new(heads, kv_heads, 256, 64).expect(PUBLISHED),
            rope_theta: 1e7,
            rope_scaling: RopeScaling::None,
            attention_bias: false,
            conv: ConvDims::new(delta.qkv_len(), 4).expect(PUBLISHED),
            delta,
            quantization: Quantization {
                default: Some(AFFINE),
                modules: Default::default(),
            },
            eos: Vec::new(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::B0_8 => "qwen3.5-0.8b",
            Shape::B2 => "qwen3.5-2b",
            Shape::B4 => "qwen3.5-4b",
            Shape::B27 => "qwen3.5-27b",
        })
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|shape| shape.to_string() == name)
            .ok_or_else(|| {
                let names = Self::ALL.map(|shape| shape.to_string()).join(", ");
                format!("{name} is not a known shape; there are {names}")
            })
    }
}

/// Why the shapes below are valid.
const PUBLISHED: &str = "published shapes fit";

const AFFINE: AffineQuantization = AffineQuantization { bits: 4, group: 64 };

/// Weights for `config`, all matrices 4-bit, the same at every call. Calls `progress(made, total)` with bytes.
pub fn weights(config: &ModelConfig, progress: &mut dyn FnMut(u64, u64)) -> HostWeights {
    let mut maker = Maker {
        noise: WeightNoise(0x9E37_79B9_7F4A_7C15),
        made: 0,
        total: total_bytes(config),
        progress,
    };
    let hidden = config.hidden;
    let ones = |len: usize| vec![1.0; len];
    let embed = maker.matrix(config.vocab, hidden);
    let mut layers = Vec::with_capacity(config.layers.len());
    for mixer in &config.layers {
        let mixer = match mixer {
            Mixer::Attention => {
                let c = &config.attention;
                let (queries, keys) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
                MixerWeights::Attention(AttentionWeights {
                    q: maker.matrix(2 * queries, hidden),
                    k: maker.matrix(keys, hidden),
                    v: maker.matrix(keys, hidden),
                    o: maker.matrix(hidden, queries),
                    bias: None,
                    q_norm: ones(c.head_dim),
                    k_norm: ones(c.head_dim),
                })
            }
            Mixer::Delta => {
                let c = &config.delta;
                let values = c.value_heads * c.value_dim;
                MixerWeights::Delta(DeltaWeights {
                    qkv: maker.matrix(config.conv.channels, hidden),
                    z: maker.matrix(values, hidden),
                    b: maker.matrix(c.value_heads, hidden),
                    a: maker.matrix(c.value_heads, hidden),
                    out: maker.matrix(hidden, values),
                    conv: maker.vector(config.conv.channels * config.conv.kernel),
                    a_log: maker.vector(c.value_heads),
                    dt_bias: maker.vector(c.value_heads),
                    norm: ones(c.value_dim),
                })
            }
        };
        layers.push(Layer {
            input_norm: ones(hidden),
            mixer,
            post_norm: ones(hidden),
            gate: maker.matrix(config.intermediate, hidden),
            up: maker.matrix(config.intermediate, hidden),
            down: maker.matrix(hidden, config.intermediate),
        });
    }
    Weights {
        embed,
        layers,
        norm: ones(hidden),
        head: (!config.tied).then(|| maker.matrix(config.vocab, hidden)),
    }
}

/// Bytes of a 4-bit matrix with bf16 scales and biases.
fn matrix_bytes(rows: usize, cols: usize) -> u64 {
    (rows * cols / 2 + 2 * 2 * rows * cols / AFFINE.group) as u64
}

fn total_bytes(config: &ModelConfig) -> u64 {
    let (hidden, inner) = (config.hidden, config.intermediate);
    let mixers: u64 = config
        .layers
        .iter()
        .map(|mixer| match mixer {
            Mixer::Attention => {
                let c = &config.attention;
                let rows = (3 * c.heads + 2 * c.kv_heads) * c.head_dim;
                matrix_bytes(rows, hidden)
            }
            Mixer::Delta => {
                let c = &config.delta;
                let values = c.value_heads * c.value_dim;
                matrix_bytes(
                    config.conv.channels + 2 * values + 2 * c.value_heads,
                    hidden,
                )
            }
        })
        .sum();
    let heads = if config.tied { 1 } else { 2 };
    mixers
        + config.layers.len() as u64 * matrix_bytes(3 * inner, hidden)
        + heads * matrix_bytes(config.vocab, hidden)
}

struct Maker<'a> {
    noise: WeightNoise,
    made: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Maker<'_> {
    fn matrix(&mut self, rows: usize, cols: usize) -> HostMatrix {
        let mut packed = vec![0u8; rows * cols / 2];
        for word in packed.chunks_exact_mut(8) {
            word.copy_from_slice(&self.noise.next().to_le_bytes());
        }
        // Uniform nibbles have a variance of 21.25: this scale keeps activations at their size.
        let scale = 1.0 / (21.25 * cols as f32).sqrt();
        let groups = rows * cols / AFFINE.group;
        let repeat = |x: f32| Bytes::new(bf16::from_f32(x).to_le_bytes().repeat(groups));
        self.made += matrix_bytes(rows, cols);
        (self.progress)(self.made, self.total);
        HostMatrix {
            rows,
            cols,
            storage: Storage::Affine {
                affine: AFFINE,
                packed: Bytes::new(packed),
                float: Float::Bf16,
                scales: repeat(scale),
                biases: repeat(-7.5 * scale),
            },
        }
    }

    /// Values between -0.5 and 0.5.
    fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| (self.noise.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5)
            .collect()
    }
}

/// xorshift64: fast and good enough for noise.
struct WeightNoise(u64);

impl WeightNoise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_parameters_of_their_names() {
        for (shape, billions) in [
            (Shape::B0_8, 0.75),
            (Shape::B2, 1.9),
            (Shape::B4, 4.2),
            (Shape::B27, 26.9),
        ] {
            let parameters = total_bytes(&shape.config()) as f64 / 4.5 * 8.0 / 1e9;
            assert!(
                (parameters / billions - 1.0).abs() < 0.05,
                "{shape}: {parameters}"
            );
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
    }
}
