//! The weights of a model: its matrices and vectors, on the host or on a backend.

mod backend_form;
mod experts;
mod matrix;

pub use experts::HostExperts;
pub use matrix::{HostMatrix, Storage};

use sanctum_kernels::ExpertDims;
use sanctum_manifest::Bytes;

/// All weights of a model, with `M` for matrices, `E` for the matrices of all experts of a layer and `V` for vectors: on the
/// host first, then a backend's own.
#[derive(Clone, Debug)]
pub struct Weights<M, E, V> {
    /// `[vocab, hidden]`.
    pub embed: M,
    /// The layers, first to last.
    pub layers: Vec<Layer<M, E, V>>,
    /// `[hidden]`.
    pub norm: V,
    /// `[vocab, hidden]`; absent where the embedding serves.
    pub head: Option<M>,
}

/// What a matrix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixRole {
    /// The embedding or the output matrix: where precision shows at once.
    Vocabulary,
    /// A layer's projection.
    Layer,
    /// Chooses experts, or scales one: small, and multiplied in f32.
    Router,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer<M, E, V> {
    /// `[hidden]`, before the mixer.
    pub input_norm: V,
    /// What mixes tokens.
    pub mixer: MixerWeights<M, V>,
    /// `[hidden]`, before the feed-forward part.
    pub post_norm: V,
    /// What follows the mixer.
    pub feed_forward: FeedForwardWeights<M, E>,
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

/// The weights of a layer's feed-forward part.
#[derive(Clone, Debug)]
pub enum FeedForwardWeights<M, E> {
    /// One block for all tokens.
    Dense(GatedWeights<M>),
    /// A mixture of experts.
    Experts(ExpertsWeights<M, E>),
}

/// A gated block, `down(silu(gate x) · up x)`, or the blocks of all experts.
#[derive(Clone, Debug)]
pub struct GatedWeights<M> {
    /// `[intermediate, hidden]`.
    pub gate: M,
    /// `[intermediate, hidden]`.
    pub up: M,
    /// `[hidden, intermediate]`.
    pub down: M,
}

/// A mixture of experts.
#[derive(Clone, Debug)]
pub struct ExpertsWeights<M, E> {
    /// How many there are, and how wide.
    pub dims: ExpertDims,
    /// `[experts, hidden]`.
    pub router: M,
    /// The block of every expert.
    pub experts: GatedWeights<E>,
    /// The expert that sees every token.
    pub shared: Option<SharedExpert<M>>,
}

/// The expert that sees every token.
#[derive(Clone, Debug)]
pub struct SharedExpert<M> {
    /// `[1, hidden]`: the sigmoid of its product scales the result.
    pub gate: M,
    /// Its block.
    pub block: GatedWeights<M>,
}

/// Weights as they come from a checkpoint.
pub type HostWeights = Weights<HostMatrix, HostExperts, Vec<f32>>;

/// Moves weights to where a backend wants them.
pub(crate) trait Mover<M, E, V> {
    /// A matrix there.
    type Matrix;
    /// The matrices of all experts there.
    type Experts;
    /// A vector there.
    type Vector;

    /// Moves a matrix.
    fn matrix(&mut self, matrix: M, role: MatrixRole) -> Self::Matrix;
    /// Moves the matrices of all experts.
    fn experts(&mut self, experts: E) -> Self::Experts;
    /// Moves a vector.
    fn vector(&mut self, vector: V) -> Self::Vector;
}

impl<M, E, V> Weights<M, E, V> {
    /// Moves everything, in the order of the forward pass.
    pub(crate) fn moved<T: Mover<M, E, V>>(
        self,
        to: &mut T,
    ) -> Weights<T::Matrix, T::Experts, T::Vector> {
        Weights {
            embed: to.matrix(self.embed, MatrixRole::Vocabulary),
            layers: self
                .layers
                .into_iter()
                .map(|layer| layer.moved(to))
                .collect(),
            norm: to.vector(self.norm),
            head: self
                .head
                .map(|head| to.matrix(head, MatrixRole::Vocabulary)),
        }
    }
}

impl<M, E, V> Layer<M, E, V> {
    fn moved<T: Mover<M, E, V>>(self, to: &mut T) -> Layer<T::Matrix, T::Experts, T::Vector> {
        Layer {
            input_norm: to.vector(self.input_norm),
            mixer: self.mixer.moved(to),
            post_norm: to.vector(self.post_norm),
            feed_forward: match self.feed_forward {
                FeedForwardWeights::Dense(block) => FeedForwardWeights::Dense(block.moved(to)),
                FeedForwardWeights::Experts(w) => FeedForwardWeights::Experts(ExpertsWeights {
                    dims: w.dims,
                    router: to.matrix(w.router, MatrixRole::Router),
                    experts: GatedWeights {
                        gate: to.experts(w.experts.gate),
                        up: to.experts(w.experts.up),
                        down: to.experts(w.experts.down),
                    },
                    shared: w.shared.map(|shared| SharedExpert {
                        gate: to.matrix(shared.gate, MatrixRole::Router),
                        block: shared.block.moved(to),
                    }),
                }),
            },
        }
    }
}

impl<M, V> MixerWeights<M, V> {
    fn moved<E, T: Mover<M, E, V>>(self, to: &mut T) -> MixerWeights<T::Matrix, T::Vector> {
        let layer = MatrixRole::Layer;
        match self {
            MixerWeights::Attention(w) => MixerWeights::Attention(AttentionWeights {
                q: to.matrix(w.q, layer),
                k: to.matrix(w.k, layer),
                v: to.matrix(w.v, layer),
                o: to.matrix(w.o, layer),
                bias: w.bias.map(|biases| biases.map(|bias| to.vector(bias))),
                q_norm: to.vector(w.q_norm),
                k_norm: to.vector(w.k_norm),
            }),
            MixerWeights::Delta(w) => MixerWeights::Delta(DeltaWeights {
                qkv: to.matrix(w.qkv, layer),
                z: to.matrix(w.z, layer),
                b: to.matrix(w.b, layer),
                a: to.matrix(w.a, layer),
                out: to.matrix(w.out, layer),
                conv: to.vector(w.conv),
                a_log: to.vector(w.a_log),
                dt_bias: to.vector(w.dt_bias),
                norm: to.vector(w.norm),
            }),
        }
    }
}

impl<M> GatedWeights<M> {
    fn moved<E, V, T: Mover<M, E, V>>(self, to: &mut T) -> GatedWeights<T::Matrix> {
        GatedWeights {
            gate: to.matrix(self.gate, MatrixRole::Layer),
            up: to.matrix(self.up, MatrixRole::Layer),
            down: to.matrix(self.down, MatrixRole::Layer),
        }
    }

    /// All three.
    pub fn each(&self) -> [&M; 3] {
        [&self.gate, &self.up, &self.down]
    }
}

impl HostWeights {
    /// Every matrix but those of experts, in the order of the forward pass.
    pub fn matrices(&self) -> Vec<&HostMatrix> {
        let mut all = vec![&self.embed];
        for layer in &self.layers {
            match &layer.mixer {
                MixerWeights::Attention(w) => all.extend([&w.q, &w.k, &w.v, &w.o]),
                MixerWeights::Delta(w) => all.extend([&w.qkv, &w.z, &w.b, &w.a, &w.out]),
            }
            match &layer.feed_forward {
                FeedForwardWeights::Dense(block) => all.extend(block.each()),
                FeedForwardWeights::Experts(w) => {
                    all.push(&w.router);
                    if let Some(shared) = &w.shared {
                        all.push(&shared.gate);
                        all.extend(shared.block.each());
                    }
                }
            }
        }
        all.extend(&self.head);
        all
    }

    /// The matrices of the experts of every layer that has some.
    pub fn experts(&self) -> impl Iterator<Item = &HostExperts> {
        self.layers.iter().flat_map(|layer| {
            let experts = match &layer.feed_forward {
                FeedForwardWeights::Dense(_) => None,
                FeedForwardWeights::Experts(w) => Some(w.experts.each()),
            };
            experts.into_iter().flatten()
        })
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> u64 {
        self.bytes_by(HostMatrix::bytes)
    }

    /// The same, with `bytes` of each matrix.
    fn bytes_by(&self, bytes: impl Fn(&HostMatrix) -> usize) -> u64 {
        let matrices = self.matrices().into_iter();
        let plain: usize = matrices.map(&bytes).sum();
        let of_all = |experts: &HostExperts| experts.count() * experts.expert_bytes_by(&bytes);
        let experts: usize = self.experts().map(of_all).sum();
        (plain + experts) as u64
    }

    /// The pieces of memory that all matrices lie in.
    pub fn parts(&self) -> Vec<Bytes> {
        let matrices = self.matrices();
        let plain = matrices.iter().flat_map(|matrix| matrix.parts());
        let mut all: Vec<Bytes> = plain.cloned().collect();
        self.experts()
            .for_each(|experts| all.extend(experts.parts()));
        all
    }
}
