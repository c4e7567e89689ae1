//! The tensors of a checkpoint, checked and put in their places.
//!
//! Two layouts are published. Hugging Face stores the convolution as `[C, 1, K]` and the norm weights minus one;
//! MLX stores `[C, K, 1]` and plain norms. The convolution's shape tells which one it is, and from here on there is
//! only one. A tensor that is missing, misshapen or left over is an error: a silent mismatch of a name once cost
//! a production system weeks of corrupt answers.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::Dtype;
use sanctum_kernels::cpu::{self, Float};

use crate::adapter::{Adapter, AdapterError};
use crate::checkpoint::Tensor;
use crate::model_config::{Affine, Mixer, ModelConfig, Packing, Quantization};
use sanctum_manifest::Bytes;

/// A matrix `[rows, cols]` as it is stored, still on the host.
#[derive(Clone, Debug)]
pub struct HostMatrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Its elements.
    pub storage: Storage,
}

/// How a matrix is stored. Equal are those of equal bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// Plain numbers, `[rows, cols]`.
    Dense {
        /// Their type.
        float: Float,
        /// The numbers.
        data: Bytes,
    },
    /// MLX's affine quantisation.
    Affine {
        /// Bits a weight and weights a group.
        affine: Affine,
        /// `[rows, cols * bits / 32]` little-endian words, lowest bits first.
        packed: Bytes,
        /// The type of scales and biases.
        float: Float,
        /// `[rows, cols / group]`.
        scales: Bytes,
        /// `[rows, cols / group]`.
        biases: Bytes,
    },
}

impl HostMatrix {
    /// Bytes that one product with this matrix reads.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Dense { data, .. } => data.len(),
            Storage::Affine {
                packed,
                scales,
                biases,
                ..
            } => packed.len() + scales.len() + biases.len(),
        }
    }

    /// As the CPU kernels take it.
    pub fn view(&self) -> cpu::Matrix<'_> {
        let Self { rows, cols, .. } = *self;
        match &self.storage {
            Storage::Dense { float, data } => {
                cpu::Dense::new(rows, cols, data, *float).map(Into::into)
            }
            Storage::Affine {
                affine,
                packed,
                float,
                scales,
                biases,
            } => {
                let parts = cpu::AffineParts {
                    bits: affine.bits,
                    group: affine.group,
                    packed,
                    scales,
                    biases,
                    float: *float,
                };
                cpu::Affine::new(rows, cols, parts).map(Into::into)
            }
        }
        .expect("the shapes were checked when the matrix was read")
    }

    /// The pieces of memory that it lies in.
    pub fn parts(&self) -> Vec<&Bytes> {
        match &self.storage {
            Storage::Dense { data, .. } => vec![data],
            Storage::Affine {
                packed,
                scales,
                biases,
                ..
            } => vec![packed, scales, biases],
        }
    }
}

/// All weights of a model, with `M` for matrices and `V` for vectors: on the host first, then a backend's own.
#[derive(Clone, Debug)]
pub struct Weights<M, V> {
    /// `[vocab, hidden]`.
    pub embed: M,
    /// The layers, first to last.
    pub layers: Vec<Layer<M, V>>,
    /// `[hidden]`.
    pub norm: V,
    /// `[vocab, hidden]`; absent where the embedding serves.
    pub head: Option<M>,
}

/// What a matrix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The embedding or the output matrix: where precision shows at once.
    Vocabulary,
    /// A layer's projection.
    Layer,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer<M, V> {
    /// `[hidden]`, before the mixer.
    pub input_norm: V,
    /// What mixes tokens.
    pub mixer: MixerWeights<M, V>,
    /// `[hidden]`, before the feed-forward part.
    pub post_norm: V,
    /// `[intermediate, hidden]`.
    pub gate: M,
    /// `[intermediate, hidden]`.
    pub up: M,
    /// `[hidden, intermediate]`.
    pub down: M,
}

/// The weights of a layer's mixer.
#[derive(Clone, Debug)]
pub enum MixerWeights<M, V> {
    /// Full attention.
    Attention(AttentionWeights<M, V>),
    /// The gated delta rule.
    Delta(DeltaWeights<M, V>),
}

/// Full attention.
#[derive(Clone, Debug)]
pub struct AttentionWeights<M, V> {
    /// `[heads * 2 * head_dim, hidden]`: per head the query, then the gate.
    pub q: M,
    /// `[kv_heads * head_dim, hidden]`.
    pub k: M,
    /// `[kv_heads * head_dim, hidden]`.
    pub v: M,
    /// `[hidden, heads * head_dim]`.
    pub o: M,
    /// Biases of q, k, v and o.
    pub bias: Option<[V; 4]>,
    /// `[head_dim]`.
    pub q_norm: V,
    /// `[head_dim]`.
    pub k_norm: V,
}

/// The gated delta rule.
#[derive(Clone, Debug)]
pub struct DeltaWeights<M, V> {
    /// `[channels, hidden]`: queries, keys, values.
    pub qkv: M,
    /// `[value_heads * value_dim, hidden]`.
    pub z: M,
    /// `[value_heads, hidden]`.
    pub b: M,
    /// `[value_heads, hidden]`.
    pub a: M,
    /// `[hidden, value_heads * value_dim]`.
    pub out: M,
    /// `[channels, conv_kernel]`.
    pub conv: V,
    /// `[value_heads]`.
    pub a_log: V,
    /// `[value_heads]`.
    pub dt_bias: V,
    /// `[value_dim]`.
    pub norm: V,
}

/// Weights as they come from a checkpoint.
pub type HostWeights = Weights<HostMatrix, Vec<f32>>;

/// Why tensors do not make the model that `config.json` describes.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A tensor is not there.
    #[error(
        "tensor {0} is missing from the checkpoint; config.json asks for it: do they belong together?"
    )]
    Missing(String),
    /// Tensors are there that the model does not have.
    #[error("the model has no place for tensor {first}{}; config.json and the checkpoint do not belong together",
        if *others > 0 { format!(" and {others} more") } else { String::new() })]
    Unused {
        /// One of them.
        first: String,
        /// How many more there are.
        others: usize,
    },
    /// A tensor has another shape than `config.json` implies.
    #[error("tensor {name} in {file} has shape {found:?}, but config.json asks for {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its file.
        file: String,
        /// Its shape.
        found: Vec<usize>,
        /// The right shape.
        expected: Vec<usize>,
    },
    /// A tensor has a type that is not read here.
    #[error("tensor {name} in {file} is stored as {found:?}; {wanted} is supported")]
    Type {
        /// The tensor.
        name: String,
        /// Its file.
        file: String,
        /// Its type.
        found: Dtype,
        /// What would do.
        wanted: &'static str,
    },
    /// A matrix has scales but `config.json` says that it is not quantised, or nothing of quantisation.
    #[error(
        "{module} has scales, but by config.json (`quantization`) it is not quantised: do they belong together?"
    )]
    NotDescribed {
        /// The module.
        module: String,
    },
    /// A quantised matrix has other bits or groups than `config.json` says.
    #[error(
        "config.json (`quantization`) says that {module} has {} bits in groups of {}, but the shapes of its tensors in {file} say \
         {} bits in groups of {}; remove the entry, since the shapes tell", said.bits, said.group, found.bits, found.group
    )]
    OtherPacking {
        /// The module.
        module: String,
        /// The file of its tensors.
        file: String,
        /// What is said.
        said: Affine,
        /// What is there.
        found: Affine,
    },
    /// The shapes of a quantised matrix are those of no quantisation that this engine computes.
    #[error(
        "{module} in {file} is quantised with {found} for the {cols} inputs that config.json asks for; 4 or 8 bits in groups of 32, \
         64 or 128 are supported. Convert with mlx_lm.convert -q --q-bits 4, if config.json belongs to this checkpoint"
    )]
    Packing {
        /// The module.
        module: String,
        /// The file of its tensors.
        file: String,
        /// Inputs that the model has for it.
        cols: usize,
        /// What the shapes say.
        found: String,
    },
    /// There is no output matrix, and the embedding must not be used as one.
    #[error(
        "tensor lm_head.weight is missing from the checkpoint, and config.json says wherever it says something that the embedding \
         is not the output matrix (`tie_word_embeddings` is false); copy the checkpoint again, or set it to true if the model \
         was trained so"
    )]
    NoHead,
    /// The adapter cannot be merged.
    #[error(transparent)]
    Adapter(Box<AdapterError>),
}

impl From<AdapterError> for WeightsError {
    fn from(error: AdapterError) -> Self {
        Self::Adapter(Box::new(error))
    }
}

impl HostWeights {
    /// Takes from `tensors` what `config` asks for, and merges the pairs of `adapter` into it, matrix by matrix.
    /// `progress` is told how many pairs are merged, and of how many.
    ///
    /// # Errors
    /// If anything is missing, left over, misshapen or of a type that is not supported.
    pub(crate) fn from_tensors(
        config: &ModelConfig,
        tensors: BTreeMap<String, Tensor>,
        adapter: Option<&mut Adapter>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, WeightsError> {
        let conv_is_shifted = |t: &Tensor| {
            t.name.ends_with(".conv1d.weight") && t.shape.last().is_some_and(|&last| last != 1)
        };
        let hugging_face = tensors.values().any(conv_is_shifted);
        if let Some(adapter) = &adapter {
            adapter.fits(|module| tensors.contains_key(&format!("{module}.weight")))?;
        }
        let mut reader = Reader {
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
}

impl<M, V> Weights<M, V> {
    /// Moves every matrix and vector to where a backend wants it, in the order of the forward pass.
    pub fn map<N, U>(
        self,
        mut matrix: impl FnMut(M, Role) -> N,
        mut vector: impl FnMut(V) -> U,
    ) -> Weights<N, U> {
        Weights {
            embed: matrix(self.embed, Role::Vocabulary),
            layers: self
                .layers
                .into_iter()
                .map(|layer| layer.map(&mut |m| matrix(m, Role::Layer), &mut vector))
                .collect(),
            norm: vector(self.norm),
            head: self.head.map(|head| matrix(head, Role::Vocabulary)),
        }
    }

    /// Every matrix, in the order of the forward pass.
    pub fn matrices(&self) -> Vec<&M> {
        let mut all = vec![&self.embed];
        for layer in &self.layers {
            match &layer.mixer {
                MixerWeights::Attention(w) => all.extend([&w.q, &w.k, &w.v, &w.o]),
                MixerWeights::Delta(w) => all.extend([&w.qkv, &w.z, &w.b, &w.a, &w.out]),
            }
            all.extend([&layer.gate, &layer.up, &layer.down]);
        }
        all.extend(&self.head);
        all
    }
}

impl<M, V> Layer<M, V> {
    fn map<N, U>(
        self,
        matrix: &mut impl FnMut(M) -> N,
        vector: &mut impl FnMut(V) -> U,
    ) -> Layer<N, U> {
        Layer {
            input_norm: vector(self.input_norm),
            mixer: match self.mixer {
                MixerWeights::Attention(w) => MixerWeights::Attention(AttentionWeights {
                    q: matrix(w.q),
                    k: matrix(w.k),
                    v: matrix(w.v),
                    o: matrix(w.o),
                    bias: w.bias.map(|biases| biases.map(&mut *vector)),
                    q_norm: vector(w.q_norm),
                    k_norm: vector(w.k_norm),
                }),
                MixerWeights::Delta(w) => MixerWeights::Delta(DeltaWeights {
                    qkv: matrix(w.qkv),
                    z: matrix(w.z),
                    b: matrix(w.b),
                    a: matrix(w.a),
                    out: matrix(w.out),
                    conv: vector(w.conv),
                    a_log: vector(w.a_log),
                    dt_bias: vector(w.dt_bias),
                    norm: vector(w.norm),
                }),
            },
            post_norm: vector(self.post_norm),
            gate: matrix(self.gate),
            up: matrix(self.up),
            down: matrix(self.down),
        }
    }
}

struct Reader<'a> {
    tensors: BTreeMap<String, Tensor>,
    quantization: &'a Quantization,
    adapter: Option<&'a mut Adapter>,
    /// Its pairs, merged or not.
    pairs: usize,
    progress: &'a mut dyn FnMut(u64, u64),
    /// What this layout left out of the norm weights.
    norm_shift: f32,
}

impl Reader<'_> {
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
    ) -> Result<Layer<HostMatrix, Vec<f32>>, WeightsError> {
        let at = |part: &str| format!("model.layers.{index}.{part}");
        let (hidden, inner) = (config.hidden, config.intermediate);
        Ok(Layer {
            input_norm: self.norm(&at("input_layernorm"), hidden)?,
            mixer: match config.layers[index] {
                Mixer::Attention => {
                    MixerWeights::Attention(self.attention(config, &at("self_attn"))?)
                }
                Mixer::Delta => MixerWeights::Delta(self.delta(config, &at("linear_attn"))?),
            },
            post_norm: self.norm(&at("post_attention_layernorm"), hidden)?,
            gate: self.matrix(&at("mlp.gate_proj"), inner, hidden)?,
            up: self.matrix(&at("mlp.up_proj"), inner, hidden)?,
            down: self.matrix(&at("mlp.down_proj"), hidden, inner)?,
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

    fn matrix(
        &mut self,
        module: &str,
        rows: usize,
        cols: usize,
    ) -> Result<HostMatrix, WeightsError> {
        let weight = format!("{module}.weight");
        let scales = format!("{module}.scales");
        let storage = if self.tensors.contains_key(&scales) {
            let affine = self.affine(module, cols)?;
            let groups = [rows, cols / affine.group];
            let packed = self.take(&weight, &[rows, cols * affine.bits as usize / 32])?;
            if packed.dtype != Dtype::U32 {
                return Err(wrong_type(&packed, "U32"));
            }
            let scales = self.take(&scales, &groups)?;
            let biases = self.take(&format!("{module}.biases"), &groups)?;
            let float = float(&scales)?;
            if biases.dtype != scales.dtype {
                return Err(wrong_type(&biases, "the type of its scales"));
            }
            Storage::Affine {
                affine,
                packed: packed.bytes,
                float,
                scales: scales.bytes,
                biases: biases.bytes,
            }
        } else {
            let tensor = self.take(&weight, &[rows, cols])?;
            Storage::Dense {
                float: float(&tensor)?,
                data: tensor.bytes,
            }
        };
        let matrix = HostMatrix {
            rows,
            cols,
            storage,
        };
        let Some(adapter) = &mut self.adapter else {
            return Ok(matrix);
        };
        let matrix = adapter.merged(module, matrix)?;
        let merged = self.pairs - adapter.left();
        (self.progress)(merged as u64, self.pairs as u64);
        Ok(matrix)
    }

    /// How a matrix with scales is quantised. With its inputs known, the shapes leave no choice.
    fn affine(&self, module: &str, cols: usize) -> Result<Affine, WeightsError> {
        let tensor = |part: &str| {
            let name = format!("{module}.{part}");
            let found = self.tensors.get(&name);
            found.ok_or(WeightsError::Missing(name))
        };
        let said = match self.quantization.of(module) {
            Packing::Named(affine) => Some(affine),
            Packing::FromShapes => None,
            Packing::Plain => {
                return Err(WeightsError::NotDescribed {
                    module: module.to_owned(),
                });
            }
        };
        let (weight, scales) = (tensor("weight")?, tensor("scales")?);
        if scales.dtype == Dtype::U8 {
            // mxfp4, mxfp8 and nvfp4.
            let wanted =
                "MLX's affine quantisation, with scales in F32, F16 or BF16 (mlx_lm.convert -q),";
            return Err(wrong_type(scales, wanted));
        }
        let row = |tensor: &Tensor| tensor.shape.last().copied().unwrap_or(0);
        let (words, groups) = (row(weight), row(scales));
        let whole = |n: usize, d: usize| (d > 0 && n.is_multiple_of(d)).then(|| n / d);
        let found = whole(32 * words, cols).zip(whole(cols, groups));
        let affine = found.and_then(|(bits, group)| {
            let bits = u8::try_from(bits).ok()?;
            Some(Affine { bits, group })
        });
        match (affine.filter(|affine| affine.is_supported()), said) {
            (Some(found), Some(said)) if found != said => Err(WeightsError::OtherPacking {
                module: module.to_owned(),
                file: weight.file.clone(),
                said,
                found,
            }),
            (Some(affine), _) => Ok(affine),
            (None, _) => Err(WeightsError::Packing {
                module: module.to_owned(),
                file: weight.file.clone(),
                cols,
                found: match found {
                    Some((bits, group)) => format!("{bits} bits in groups of {group}"),
                    None => format!(
                        "{words} words and {groups} scales a row, which fit no whole number of bits"
                    ),
                },
            }),
        }
    }

    /// Complains about tensors that nobody asked for.
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
