//! Random weights in production shapes: a model of the right size and speed whose answers are noise.
//!
//! Measurements and load tests need a model of production size more often than good answers.

use std::fmt;
use std::str::FromStr;

mod filled;

use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, ExpertDims, RopeScaling};

use self::filled::{AFFINE, Maker, ROUTER, matrix_bytes};
use crate::load::model_config::{
    FeedForward, Mixer, ModelConfig, ModuleQuantization, Quantization,
};
use crate::load::weights::{
    AttentionWeights, DeltaWeights, ExpertsWeights, FeedForwardWeights, GatedWeights, HostExperts,
    HostMatrix, HostWeights, Layer, MixerWeights, SharedExpert, Weights,
};

/// A published size of Qwen3.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// 0.8 billion parameters.
    B0_8,
    /// 2 billion.
    B2,
    /// 4 billion.
    B4,
    /// 9 billion.
    B9,
    /// 27 billion.
    B27,
    /// A mixture of experts: 35 billion, of which a token uses 3.
    B35A3,
    /// A mixture of experts: 122 billion, of which a token uses 10.
    B122A10,
}

impl Shape {
    /// Every shape, smallest first.
    pub const ALL: [Shape; 7] = [
        Shape::B0_8,
        Shape::B2,
        Shape::B4,
        Shape::B9,
        Shape::B27,
        Shape::B35A3,
        Shape::B122A10,
    ];

    /// Its sizes, as published.
    pub fn config(self) -> ModelConfig {
        let dense = |intermediate| FeedForward::Dense { intermediate };
        let experts =
            |width| FeedForward::Experts(ExpertDims::new(256, 8, width, width).expect(PUBLISHED));
        let (hidden, feed_forward, layers, heads, kv_heads, value_heads, tied) = match self {
            Shape::B0_8 => (1024, dense(3584), 24, 8, 2, 16, true),
            Shape::B2 => (2048, dense(6144), 24, 8, 2, 16, true),
            Shape::B4 => (2560, dense(9216), 32, 16, 4, 32, true),
            Shape::B9 => (4096, dense(12288), 32, 16, 4, 32, false),
            Shape::B27 => (5120, dense(17408), 64, 24, 4, 48, false),
            Shape::B35A3 => (2048, experts(512), 40, 16, 2, 32, false),
            Shape::B122A10 => (3072, experts(1024), 48, 32, 2, 64, false),
        };
        let delta = DeltaDims::new(16, value_heads, 128, 128).expect(PUBLISHED);
        let mixer = |layer: usize| match layer % 4 {
            3 => Mixer::Attention,
            _ => Mixer::Delta,
        };
        ModelConfig {
            hidden,
            feed_forward,
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
                default: Some(ModuleQuantization::Affine(AFFINE)),
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
            Shape::B9 => "qwen3.5-9b",
            Shape::B27 => "qwen3.5-27b",
            Shape::B35A3 => "qwen3.5-35b-a3b",
            Shape::B122A10 => "qwen3.5-122b-a10b",
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

/// Weights for `config`: matrices of 4 bits, routers of 8, the same at every call. Calls `progress(made, total)` with bytes.
///
/// A router prefers some experts as those of trained models do: in a mixture of 256, of which a token uses 8, the busiest gets
/// four times its even share, a tenth of them less than a fifth of it, and 32 tokens use 140 different experts rather than 163.
pub fn weights(config: &ModelConfig, progress: &mut dyn FnMut(u64, u64)) -> HostWeights {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    weights_on(threads, config, progress)
}

/// The same on so many threads, which change nothing.
fn weights_on(
    threads: usize,
    config: &ModelConfig,
    progress: &mut dyn FnMut(u64, u64),
) -> HostWeights {
    let mut maker = Maker::new(threads, total_bytes(config), progress);
    let hidden = config.hidden;
    let ones = |len: usize| vec![1.0; len];
    let embed = maker.matrix(config.vocab, hidden);
    let mut layers = Vec::with_capacity(config.layers.len());
    for mixer in &config.layers {
        layers.push(Layer {
            input_norm: ones(hidden),
            mixer: mixer_weights(&mut maker, config, *mixer),
            post_norm: ones(hidden),
            feed_forward: match &config.feed_forward {
                FeedForward::Dense { intermediate } => {
                    FeedForwardWeights::Dense(block(&mut maker, *intermediate, hidden))
                }
                FeedForward::Experts(dims) => {
                    FeedForwardWeights::Experts(experts(&mut maker, dims, hidden))
                }
            },
        });
    }
    Weights {
        embed,
        layers,
        norm: ones(hidden),
        head: (!config.tied).then(|| maker.matrix(config.vocab, hidden)),
    }
}

fn mixer_weights(
    maker: &mut Maker<'_>,
    config: &ModelConfig,
    mixer: Mixer,
) -> MixerWeights<HostMatrix, Vec<f32>> {
    let hidden = config.hidden;
    let ones = |len: usize| vec![1.0; len];
    match mixer {
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
    }
}

fn block(maker: &mut Maker<'_>, inner: usize, hidden: usize) -> GatedWeights<HostMatrix> {
    GatedWeights {
        gate: maker.matrix(inner, hidden),
        up: maker.matrix(inner, hidden),
        down: maker.matrix(hidden, inner),
    }
}

fn experts(
    maker: &mut Maker<'_>,
    dims: &ExpertDims,
    hidden: usize,
) -> ExpertsWeights<HostMatrix, HostExperts> {
    let (count, inner) = (dims.experts, dims.intermediate);
    let mut stacked =
        |rows: usize, cols: usize| HostExperts::stacked(maker.matrix(count * rows, cols), count);
    let experts = GatedWeights {
        gate: stacked(inner, hidden),
        up: stacked(inner, hidden),
        down: stacked(hidden, inner),
    };
    ExpertsWeights {
        dims: *dims,
        router: maker.router(count, hidden),
        experts,
        shared: (dims.shared > 0).then(|| SharedExpert {
            gate: maker.router(1, hidden),
            block: block(maker, dims.shared, hidden),
        }),
    }
}

fn total_bytes(config: &ModelConfig) -> u64 {
    let hidden = config.hidden;
    let of = |rows: usize| matrix_bytes(AFFINE, rows, hidden);
    let mixers: u64 = config
        .layers
        .iter()
        .map(|mixer| match mixer {
            Mixer::Attention => {
                let c = &config.attention;
                of((3 * c.heads + 2 * c.kv_heads) * c.head_dim)
            }
            Mixer::Delta => {
                let c = &config.delta;
                let values = c.value_heads * c.value_dim;
                of(config.conv.channels + 2 * values + 2 * c.value_heads)
            }
        })
        .sum();
    let feed_forward = match &config.feed_forward {
        FeedForward::Dense { intermediate } => of(3 * intermediate),
        FeedForward::Experts(dims) => {
            let routers = dims.experts + usize::from(dims.shared > 0);
            of(3 * (dims.experts * dims.intermediate + dims.shared))
                + matrix_bytes(ROUTER, routers, hidden)
        }
    };
    let heads = if config.tied { 1 } else { 2 };
    mixers + config.layers.len() as u64 * feed_forward + heads * of(config.vocab)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::weights::Storage;

    #[test]
    fn shapes_have_the_parameters_of_their_names() {
        for (shape, billions) in [
            (Shape::B0_8, 0.75),
            (Shape::B2, 1.9),
            (Shape::B4, 4.2),
            (Shape::B9, 8.95),
            (Shape::B27, 26.9),
            (Shape::B35A3, 34.66),
            (Shape::B122A10, 122.1),
        ] {
            let parameters = total_bytes(&shape.config()) as f64 / 4.5 * 8.0 / 1e9;
            assert!(
                (parameters / billions - 1.0).abs() < 0.05,
                "{shape}: {parameters}"
            );
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
    }

    /// Two layers of a mixture, with matrices of more than one piece.
    fn small() -> ModelConfig {
        ModelConfig {
            hidden: 256,
            layers: vec![Mixer::Delta, Mixer::Attention],
            vocab: 20_000,
            feed_forward: FeedForward::Experts(ExpertDims::new(96, 4, 64, 128).unwrap()),
            ..Shape::B0_8.config()
        }
    }

    #[test]
    fn weights_do_not_depend_on_threads_and_progress_ends_at_the_total() {
        let config = small();
        let of = |threads| {
            let mut last = (0, 0);
            let weights = weights_on(threads, &config, &mut |done, total| last = (done, total));
            assert_eq!(last, (total_bytes(&config), weights.bytes()));
            weights
        };
        let (one, many) = (of(1), of(5));
        assert_eq!(one.parts(), many.parts());
        assert!(one.parts().iter().any(|part| part.len() > 2 << 20));
        let mut different: Vec<_> = one
            .matrices()
            .into_iter()
            .map(|m| m.parts()[0].to_vec())
            .collect();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), one.matrices().len());
    }

    /// The products of a random vector with the rows of a router have the sizes that these were given.
    #[test]
    fn routers_prefer_some_experts() {
        let mut quiet = |_: u64, _: u64| ();
        let router = Maker::new(1, 0, &mut quiet).router(256, 64);
        let Storage::Affine { scales, .. } = &router.storage else {
            panic!("a router is quantised");
        };
        let mut sizes: Vec<f32> = scales
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&b| half::bf16::from_le_bytes(b).to_f32())
            .collect();
        sizes.sort_by(f32::total_cmp);
        let [low, middle, high] = [26, 128, 230].map(|i| sizes[i] / sizes[128]);
        assert!((0.7..0.85).contains(&low) && middle == 1.0 && (1.2..1.4).contains(&high));
    }
}
