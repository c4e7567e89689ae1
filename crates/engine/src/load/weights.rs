//! The weights of a model: its matrices and vectors, on the host or on a backend.

mod matrix;

pub use matrix::{HostMatrix, Storage};

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
pub enum MatrixRole {
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

impl<M, V> Weights<M, V> {
    /// Moves every matrix and vector to where a backend wants it, in the order of the forward pass.
    pub fn map<N, U>(
        self,
        mut matrix: impl FnMut(M, MatrixRole) -> N,
        mut vector: impl FnMut(V) -> U,
    ) -> Weights<N, U> {
        Weights {
            embed: matrix(self.embed, MatrixRole::Vocabulary),
            layers: self
                .layers
                .into_iter()
                .map(|layer| layer.map(&mut |m| matrix(m, MatrixRole::Layer), &mut vector))
                .collect(),
            norm: vector(self.norm),
            head: self.head.map(|head| matrix(head, MatrixRole::Vocabulary)),
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
