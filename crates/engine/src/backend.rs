//! What a device must be able to do for the graph to run on it.
//!
//! A dozen coarse operations, so that each backend fuses as it likes and the graph is written once. `N` is the
//! number of rows in the batch.

pub(crate) mod batch;
pub(crate) mod cost;
mod cpu;
mod machine;
pub(crate) mod memory;
#[cfg(feature = "mlx")]
mod mlx;
mod usage;

pub use batch::{Batch, Segment, SlotId};
pub use cost::SequenceCost;
pub use cpu::CpuBackend;
pub use memory::{MemoryLimits, Resolved, Usage};
#[cfg(feature = "mlx")]
pub use mlx::{MlxBackend, MlxDevice};
pub use sanctum_kernels::KvMode;
pub use sanctum_kernels::cpu::Precision;
pub use usage::memory_usage;

use sanctum_grammar::Mask;
use sanctum_kernels::cpu::Pool;

use crate::load::model_config::ModelConfig;
use crate::load::weights::{AttentionWeights, DeltaWeights, HostMatrix, Role};

/// What a pass is fed.
#[derive(Debug)]
pub enum Tokens<'a, C> {
    /// What the host knows.
    Known(&'a [u32]),
    /// What another pass has chosen, and the host may not have seen.
    Chosen(&'a C),
}

/// A device.
pub trait Backend {
    /// Activations, `[N, width]`.
    type Tensor;
    /// A weight matrix `[outputs, inputs]`.
    type Matrix;
    /// A small f32 parameter.
    type Vector;
    /// The memory of all sequences.
    type Slots;
    /// Tokens that were chosen where the logits are, `[outputs]`.
    type Chosen;

    /// Takes a matrix over.
    fn matrix(&self, matrix: HostMatrix, role: Role) -> Self::Matrix;
    /// Takes a vector over.
    fn vector(&self, vector: Vec<f32>) -> Self::Vector;

    /// Memory for `count` sequences; each takes what it needs as it grows.
    fn slots(&self, config: &ModelConfig, count: usize) -> Self::Slots;
    /// Forgets a sequence and frees what it took.
    fn clear(&self, slots: &mut Self::Slots, slot: SlotId);
    /// No sequence is left, and no request waits: what is only kept for the next pass may be freed.
    fn idle(&self, _slots: &mut Self::Slots) {}

    /// What a sequence takes of it.
    fn cost(&self, config: &ModelConfig) -> SequenceCost;
    /// Passes of so many rows make everything that is compiled on first use; none where nothing is.
    fn warm_up(&self) -> &[usize] {
        &[]
    }

    /// Prepares a pass over `segments`: a backend that computes lazily places their rows here, once for all layers.
    fn begin(&self, _slots: &mut Self::Slots, _segments: &[Segment]) {}
    /// A layer of a pass is written down; `x` is what leaves it.
    fn layer_done(&self, _layer: usize, _x: &Self::Tensor) {}
    /// Ends a pass. A backend that computes lazily starts on everything that the pass leaves behind here, in one
    /// evaluation; `read` waits for it.
    fn finish(
        &self,
        _slots: &mut Self::Slots,
        logits: Option<Self::Tensor>,
    ) -> Option<Self::Tensor> {
        logits
    }

    /// Rows of the embedding, `[tokens, hidden]`.
    fn embed(&self, matrix: &Self::Matrix, tokens: Tokens<'_, Self::Chosen>) -> Self::Tensor;
    /// `x Wᵀ` for matrices that share their input.
    fn project<const W: usize>(
        &self,
        x: &Self::Tensor,
        matrices: [&Self::Matrix; W],
    ) -> [Self::Tensor; W];
    /// `x + y`.
    fn add(&self, x: Self::Tensor, y: &Self::Tensor) -> Self::Tensor;
    /// `x + bias`, the bias being one row.
    fn add_bias(&self, x: Self::Tensor, bias: &Self::Vector) -> Self::Tensor;
    /// `x / rms(x) * weight`, row by row.
    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Self::Tensor;
    /// `x + y`, and that sum normed; the normed one as exact as what it is multiplied with.
    fn add_norm(
        &self,
        x: Self::Tensor,
        y: &Self::Tensor,
        weight: &Self::Vector,
        eps: f32,
    ) -> [Self::Tensor; 2] {
        let sum = self.add(x, y);
        let normed = self.rms_norm(&sum, weight, eps);
        [sum, normed]
    }
    /// `silu(gate) * up`.
    fn swiglu(&self, gate: Self::Tensor, up: &Self::Tensor) -> Self::Tensor;
    /// Some of the rows.
    fn select_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Self::Tensor;

    /// Gated softmax attention over each segment's own sequence, which it extends: norms and rotates queries and
    /// keys, remembers keys and values, and multiplies the result with the sigmoid of the gate.
    ///
    /// `q`: `[N, heads * 2 * head_dim]`, `k` and `v`: `[N, kv_heads * head_dim]`; gives `[N, heads * head_dim]`.
    #[allow(clippy::too_many_arguments)] // the operation's own inputs; a struct would only rename them
    fn attention(
        &self,
        config: &ModelConfig,
        weights: &AttentionWeights<Self::Matrix, Self::Vector>,
        layer: usize,
        segments: &[Segment],
        slots: &mut Self::Slots,
        q: Self::Tensor,
        k: Self::Tensor,
        v: Self::Tensor,
    ) -> Self::Tensor;
    /// Causal depthwise convolution, then SiLU; remembers each segment's last raw rows. `[N, channels]`.
    fn short_conv(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<Self::Matrix, Self::Vector>,
        layer: usize,
        segments: &[Segment],
        slots: &mut Self::Slots,
        qkv: Self::Tensor,
    ) -> Self::Tensor;
    /// The gated delta rule over each segment's own state, then the norm gated by `z`.
    ///
    /// `qkv`: `[N, channels]`, `z`: `[N, value_heads * value_dim]`, `a` and `b`: `[N, value_heads]`; gives
    /// `[N, value_heads * value_dim]`.
    #[allow(clippy::too_many_arguments)]
    fn gated_delta(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<Self::Matrix, Self::Vector>,
        layer: usize,
        segments: &[Segment],
        slots: &mut Self::Slots,
        qkv: Self::Tensor,
        z: &Self::Tensor,
        a: &Self::Tensor,
        b: &Self::Tensor,
    ) -> Self::Tensor;

    /// Threads for work on the host, such as sampling.
    fn pool(&self) -> &Pool;

    /// Brings a tensor to the host: waits for the device where there is one.
    fn read(&self, x: Self::Tensor) -> Vec<f32>;
    /// Starts to choose the likeliest token of each row of logits, of equals the first; none where that is the host's work.
    ///
    /// `masks` has an entry for each row: the tokens that may be chosen, or none if all may.
    fn likeliest(&self, _logits: &Self::Tensor, _masks: &[Option<Mask>]) -> Option<Self::Chosen> {
        None
    }
    /// Waits for chosen tokens, and only for them: what was begun after them may still run. None for a row whose
    /// logits are not all finite.
    fn tokens(&self, chosen: &Self::Chosen) -> Vec<Option<u32>>;
}
