//! What a device computes for the graph.
//!
//! [`Backend`] has a dozen coarse operations, so that each device fuses as it likes and the graph is written once. There are
//! two: the CPU's own kernels ([`CpuBackend`]) and MLX. `N` is the number of rows in the batch.

pub(crate) mod batch;
pub(crate) mod cost;
mod cpu;
mod expert_reads;
mod machine;
pub(crate) mod memory;
#[cfg(feature = "mlx")]
mod mlx;
mod usage;

pub use batch::{Batch, BatchSegment, SlotId};
pub use cost::{ExtraCost, SequenceCost};
pub use cpu::CpuBackend;
pub use expert_reads::ExpertReads;
pub use memory::{MemoryLimits, MemoryUsage, ResolvedLimits};
#[cfg(feature = "mlx")]
pub use mlx::{MlxBackend, MlxDevice};
pub use sanctum_kernels::KvMode;
pub use sanctum_kernels::cpu::Precision;
pub use usage::memory_usage;

use sanctum_grammar::Mask;
use sanctum_kernels::cpu::Pool;

use crate::load::model_config::ModelConfig;
use crate::load::weights::{
    AttentionWeights, DeltaWeights, ExpertsWeights, HostExperts, HostMatrix, MatrixRole,
};

/// The input tokens of a pass.
#[derive(Debug)]
pub enum Tokens<'a, C> {
    /// Token ids on the host.
    Known(&'a [u32]),
    /// Tokens that another pass has chosen on the device; the host may not have read them yet.
    Chosen(&'a C),
}

/// A device.
pub trait Backend {
    /// Activations, `[N, width]`.
    type Tensor;
    /// A weight matrix `[outputs, inputs]`.
    type Matrix;
    /// A matrix of each expert of a layer, `[experts, outputs, inputs]`.
    type Experts;
    /// A small f32 parameter.
    type Vector;
    /// The memory of all sequences.
    type Slots;
    /// Tokens that were chosen on the device, `[outputs]`.
    type Chosen;
    /// What a slot holds at one length: pages of keys and values, shared by reference, and copies of the recurrent states.
    type Snapshot;

    /// Moves a matrix to the device.
    fn matrix(&self, matrix: HostMatrix, role: MatrixRole) -> Self::Matrix;
    /// Moves the matrices of a layer's experts to the device.
    fn expert_matrices(&self, experts: HostExperts) -> Self::Experts;
    /// Moves a vector to the device.
    fn vector(&self, vector: Vec<f32>) -> Self::Vector;

    /// Memory for `count` sequences; each takes what it needs as it grows.
    fn slots(&self, config: &ModelConfig, count: usize) -> Self::Slots;
    /// Forgets a sequence and frees what it took.
    fn clear(&self, slots: &mut Self::Slots, slot: SlotId);
    /// Whether snapshots can be taken. If not, none of the next functions is called.
    fn has_snapshots(&self) -> bool {
        true
    }
    /// What a sequence's slot holds after all passes that were begun. The sequence may go on: what it writes later is no part of
    /// the snapshot. Not within a pass.
    fn snapshot(&self, slots: &mut Self::Slots, slot: SlotId) -> Self::Snapshot;
    /// Begins a sequence with what a snapshot holds. The slot is empty before. The snapshot stays as it is.
    fn restore(&self, slots: &mut Self::Slots, slot: SlotId, snapshot: &Self::Snapshot);
    /// Frees a snapshot, and the pages that nothing else shares.
    fn release(&self, slots: &mut Self::Slots, snapshot: Self::Snapshot);
    /// Identifies the pages that a snapshot holds, in order: equal numbers are the same memory, as long as a snapshot holds it.
    /// Each stands for the pages of all layers; together they take [`SequenceCost::page`] times [`SequenceCost::per_token`] bytes.
    fn pages(&self, slots: &Self::Slots, snapshot: &Self::Snapshot) -> Vec<u64>;
    /// A snapshot as bytes: its recurrent states, and the keys and values of the positions `from..`. Little-endian, and the same
    /// for equal states. It may hold more than that: whole pages.
    fn export(&self, slots: &mut Self::Slots, snapshot: &Self::Snapshot, from: usize) -> Vec<u8>;
    /// The snapshot that [`Backend::export`] made these bytes of; `parent` holds the positions before `from` and shares their
    /// pages, none if `from` was 0.
    ///
    /// # Errors
    /// If the bytes do not fit the model, or the parent; the text says how.
    fn import(
        &self,
        slots: &mut Self::Slots,
        parent: Option<&Self::Snapshot>,
        bytes: &[u8],
    ) -> Result<Self::Snapshot, String>;

    /// How far the logits of a sequence may be from those of the same tokens divided into other passes, in standard deviations of
    /// the logits; none: every bit is equal.
    fn tolerance(&self) -> Option<f64> {
        None
    }

    /// No sequence is running and no request waits: memory that is kept only for the next pass may be freed.
    fn idle(&self, _slots: &mut Self::Slots) {}

    /// The memory that a sequence takes.
    fn cost(&self, config: &ModelConfig) -> SequenceCost;
    /// Numbers of rows: a pass of each compiles everything that is compiled on first use. Empty where nothing is.
    fn warm_up(&self) -> &[usize] {
        &[]
    }

    /// Prepares a pass over `segments`: a backend that computes lazily places their rows here, once for all layers.
    fn begin(&self, _slots: &mut Self::Slots, _segments: &[BatchSegment]) {}
    /// Notifies the backend that a layer of a pass is enqueued; `x` is its output.
    fn layer_done(&self, _layer: usize, _x: &Self::Tensor) {}
    /// Ends a pass. A backend that computes lazily starts to evaluate all results of the pass here, in one evaluation;
    /// `read` waits for it.
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
    /// `x Wᵀ` that [`Self::add`] or [`Self::add_norm`] takes next, and nothing else: a backend may leave the last sum to it.
    fn project_summand(&self, x: &Self::Tensor, matrix: &Self::Matrix) -> Self::Tensor {
        let [product] = self.project(x, [matrix]);
        product
    }
    /// `x + y`.
    fn add(&self, x: Self::Tensor, y: &Self::Tensor) -> Self::Tensor;
    /// `x + bias`, the bias being one row.
    fn add_bias(&self, x: Self::Tensor, bias: &Self::Vector) -> Self::Tensor;
    /// `x / rms(x) * weight`, row by row.
    fn rms_norm(&self, x: &Self::Tensor, weight: &Self::Vector, eps: f32) -> Self::Tensor;
    /// `x + y`, and that sum normed; the normed one as exact as the matrix that it is multiplied with.
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
    /// `silu(x Gᵀ) * (x Uᵀ)` for the matrices `[G, U]`.
    fn project_gated(&self, x: &Self::Tensor, matrices: [&Self::Matrix; 2]) -> Self::Tensor {
        let [gate, up] = self.project(x, matrices);
        self.swiglu(gate, &up)
    }
    /// A mixture of experts: each row goes to the `per_token` experts of the largest router logits, of equal ones the lower
    /// index, and to the shared expert. The softmax over these logits scales the experts' results, the sigmoid of its gate the
    /// shared one's. Like [`Self::project_summand`], its result is taken by [`Self::add`] or [`Self::add_norm`].
    fn experts(
        &self,
        weights: &ExpertsWeights<Self::Matrix, Self::Experts>,
        x: &Self::Tensor,
    ) -> Self::Tensor;
    /// How many experts were read so far; none where the host does not learn it.
    fn expert_reads(&self) -> Option<ExpertReads> {
        None
    }
    /// Some of the rows.
    fn select_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Self::Tensor;

    /// Gated softmax attention over each segment's own sequence, which it extends: normalizes and rotates queries
    /// and keys, appends keys and values to the cache, and multiplies the result with the sigmoid of the gate.
    ///
    /// `q`: `[N, heads * 2 * head_dim]`, `k` and `v`: `[N, kv_heads * head_dim]`; gives `[N, heads * head_dim]`.
    #[allow(clippy::too_many_arguments)] // the operation's own inputs; a struct would only rename them
    fn attention(
        &self,
        config: &ModelConfig,
        weights: &AttentionWeights<Self::Matrix, Self::Vector>,
        layer: usize,
        segments: &[BatchSegment],
        slots: &mut Self::Slots,
        q: Self::Tensor,
        k: Self::Tensor,
        v: Self::Tensor,
    ) -> Self::Tensor;
    /// Causal depthwise convolution, then SiLU; keeps each segment's last raw rows for its next pass. `[N, channels]`.
    fn short_conv(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<Self::Matrix, Self::Vector>,
        layer: usize,
        segments: &[BatchSegment],
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
        segments: &[BatchSegment],
        slots: &mut Self::Slots,
        qkv: Self::Tensor,
        z: &Self::Tensor,
        a: &Self::Tensor,
        b: &Self::Tensor,
    ) -> Self::Tensor;

    /// [`Self::short_conv`] of `qkv`, then [`Self::gated_delta`].
    #[allow(clippy::too_many_arguments)]
    fn delta(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<Self::Matrix, Self::Vector>,
        layer: usize,
        segments: &[BatchSegment],
        slots: &mut Self::Slots,
        qkv: Self::Tensor,
        z: &Self::Tensor,
        a: &Self::Tensor,
        b: &Self::Tensor,
    ) -> Self::Tensor {
        let qkv = self.short_conv(config, weights, layer, segments, slots, qkv);
        self.gated_delta(config, weights, layer, segments, slots, qkv, z, a, b)
    }

    /// Threads for work on the host, such as sampling.
    fn pool(&self) -> &Pool;

    /// Copies a tensor to the host; waits for the device where there is one.
    fn read(&self, x: Self::Tensor) -> Vec<f32>;
    /// Starts to compute the greedy token of each row of logits: the argmax, of equal logits the first. None if the host does
    /// that.
    ///
    /// `masks` has an entry for each row: the tokens that may be chosen, or none if all may.
    fn argmax(&self, _logits: &Self::Tensor, _masks: &[Option<Mask>]) -> Option<Self::Chosen> {
        None
    }
    /// Waits for chosen tokens, and only for them: later work may still run. None for a row whose logits are not all finite.
    fn tokens(&self, chosen: &Self::Chosen) -> Vec<Option<u32>>;
}
