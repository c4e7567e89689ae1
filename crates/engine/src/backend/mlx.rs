//! The MLX backend: Metal on Apple silicon, CUDA or MLX's CPU device elsewhere.
//!
//! Operations only build MLX's graph; a pass is evaluated once, at its end, together with everything that it leaves
//! in the caches. All of it happens on the engine's thread, to which MLX's streams belong.

mod attention;
mod bridge;
mod chosen;
mod device;
mod experts;
mod fused;
mod matrix;
mod memory;
mod ops;
mod packed;
mod pages;
mod plan;
mod recurrent;
mod shapes;
mod slots;
mod snapshot;

use std::fmt;

use mlx_rs::fast::rms_norm;
use mlx_rs::transforms::{async_eval, eval};
use mlx_rs::{Array, Device, Dtype};
use sanctum_grammar::Mask;
use sanctum_kernels::cpu::{Pool, Precision};
use sanctum_kernels::{KvMode, RopeScaling};

pub use self::device::MlxDevice;
pub(super) use self::matrix::{MlxExperts, MlxMatrix};
pub(super) use self::memory::usage;
pub(super) use self::slots::MlxSlots;
pub(super) use self::snapshot::MlxSnapshot;

use self::bridge::Gpu;
use self::chosen::Chosen;
use self::fused::Fused;
use self::ops::{cast, dim, f32, must, reshape, rows, silu};
use self::slots::LayerState;
use super::{Backend, Tokens};
use crate::backend::batch::{BatchSegment, SlotId};
use crate::backend::cost::SequenceCost;
use crate::backend::memory::{MemoryLimits, ResolvedLimits};
use crate::load::model_config::{Mixer, ModelConfig};
use crate::load::weights::{
    AttentionWeights, DeltaWeights, ExpertsWeights, HostExperts, HostMatrix, HostWeights,
    MatrixRole, Storage,
};

/// Layers that are enqueued on a GPU at a time.
const LAYERS_AHEAD: usize = 8;

/// MLX on one device.
///
/// The residual stream and all that accumulates is f32; what is multiplied with weights, and keys and values, have the
/// checkpoint's own type, or f32 to be exact.
pub struct MlxBackend {
    dtype: Dtype,
    kv_cache: KvMode,
    /// This crate's kernels, where there is a GPU.
    fused: Option<Fused>,
    pool: Pool,
}

/// A small parameter, in f32 and in the type of activations: some operations want the one, some the other.
#[derive(Debug)]
pub struct MlxVector {
    exact: Array,
    rounded: Array,
}

impl fmt::Debug for MlxBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MLX, {:?}", self.dtype)
    }
}

impl MlxBackend {
    /// Runs `weights` on `device`, which becomes MLX's default for the whole process. Activations have the type that
    /// the checkpoint's embedding has, or f32 to be exact; `threads` work on the host, for sampling. The KV
    /// cache is plain.
    pub fn new(
        device: MlxDevice,
        weights: &HostWeights,
        threads: usize,
        precision: Precision,
    ) -> Self {
        if device == MlxDevice::Gpu && bridge::has_graph_limit() {
            tracing::warn!(
                "MLX ends this process once it has built some 800 different CUDA graphs; start it with \
                 MLX_ENABLE_CACHE_THRASHING_CHECK=0 if it runs for long"
            );
        }
        Device::set_default(&match device {
            MlxDevice::Cpu => Device::cpu(),
            MlxDevice::Gpu => Device::gpu(),
        });
        Self {
            dtype: match precision {
                Precision::Exact => Dtype::Float32,
                Precision::Fast => matrix::dtype_of(matrix::float_of(&weights.embed)),
            },
            kv_cache: KvMode::Plain,
            fused: match device {
                MlxDevice::Cpu => None,
                MlxDevice::Gpu => Gpu::here().map(Fused::new),
            },
            pool: Pool::new(threads),
        }
    }

    /// Sets the environment that MLX reads. Call it first in a program that runs for long, before it has a second thread.
    pub fn prepare() {
        bridge::disable_graph_limit();
    }

    /// Keeps values in another way, which must fit the model's heads ([`KvMode::fit`]).
    pub fn with_kv_cache(self, kv_cache: KvMode) -> Self {
        Self { kv_cache, ..self }
    }

    /// Sets the limits of MLX's memory for the whole process; returns the limits in effect.
    pub fn limit(device: MlxDevice, limits: &MemoryLimits) -> ResolvedLimits {
        memory::limit(device, limits)
    }

    fn attention_parameters<'a>(
        &self,
        config: &'a ModelConfig,
        weights: &'a AttentionWeights<MlxMatrix, MlxVector>,
    ) -> attention::AttentionParameters<'a> {
        attention::AttentionParameters {
            dims: &config.attention,
            q_norm: &weights.q_norm.rounded,
            k_norm: &weights.k_norm.rounded,
            eps: config.rms_eps,
            theta: config.rope_theta as f32,
            rope: config.rope(),
        }
    }
}

impl Backend for MlxBackend {
    type Tensor = Array;
    type Matrix = MlxMatrix;
    type Experts = MlxExperts;
    type Vector = MlxVector;
    type Slots = MlxSlots;
    type Chosen = Chosen;
    type Snapshot = MlxSnapshot;

    fn matrix(&self, matrix: HostMatrix, role: MatrixRole) -> MlxMatrix {
        let matrix = matrix.unblocked(&self.pool);
        // Logits of 16 bits would often be equal where they should not be. Scales in f32 cost little, a whole matrix
        // would cost much.
        let dtype = match (role, &matrix.storage) {
            (MatrixRole::Vocabulary, Storage::Affine { .. }) | (MatrixRole::Router, _) => {
                Dtype::Float32
            }
            _ => self.dtype,
        };
        let tiled = self.dtype == Dtype::Bfloat16 && role != MatrixRole::Router;
        match &self.fused {
            Some(fused) if fused.multiplies() && tiled => {
                let whole = role == MatrixRole::Vocabulary;
                MlxMatrix::tiled(matrix, dtype, whole, self.pool.threads())
            }
            _ => MlxMatrix::new(matrix, dtype),
        }
    }

    fn expert_matrices(&self, experts: HostExperts) -> MlxExperts {
        let fused = self.fused.as_ref().filter(|fused| fused.multiplies());
        let tensor = fused.map(|_| self.pool.threads());
        MlxExperts::new(experts.unblocked(&self.pool), self.dtype, tensor)
    }

    fn vector(&self, vector: Vec<f32>) -> MlxVector {
        let shape = [dim(vector.len())];
        MlxVector {
            exact: matrix::vector(&vector, &shape, Dtype::Float32),
            rounded: matrix::vector(&vector, &shape, self.dtype),
        }
    }

    fn slots(&self, config: &ModelConfig, count: usize) -> MlxSlots {
        MlxSlots::new(config, count)
    }

    fn clear(&self, slots: &mut MlxSlots, slot: SlotId) {
        slots.clear(slot);
    }

    fn snapshot(&self, slots: &mut MlxSlots, slot: SlotId) -> MlxSnapshot {
        slots.snapshot(slot)
    }

    fn restore(&self, slots: &mut MlxSlots, slot: SlotId, snapshot: &MlxSnapshot) {
        slots.restore(slot, snapshot);
    }

    fn release(&self, slots: &mut MlxSlots, snapshot: MlxSnapshot) {
        slots.release(snapshot);
    }

    fn pages(&self, _slots: &MlxSlots, snapshot: &MlxSnapshot) -> Vec<u64> {
        snapshot.pages()
    }

    fn export(&self, slots: &mut MlxSlots, snapshot: &MlxSnapshot, from: usize) -> Vec<u8> {
        slots.export(snapshot, from)
    }

    fn import(
        &self,
        slots: &mut MlxSlots,
        parent: Option<&MlxSnapshot>,
        bytes: &[u8],
    ) -> Result<MlxSnapshot, String> {
        slots.import(self.kv_cache, parent, bytes)
    }

    /// A GPU chooses its products by the number of rows, so that their last bits depend on how a sequence is divided into
    /// passes. A packed value that lies between two codes may become either.
    fn tolerance(&self) -> Option<f64> {
        let rounded = match self.dtype {
            Dtype::Float32 => 1e-3,
            _ => 1e-1,
        };
        Some(match self.kv_cache {
            KvMode::Plain => rounded,
            KvMode::V8 => rounded.max(5e-3),
            KvMode::V4 => rounded.max(1e-1),
        })
    }

    fn idle(&self, slots: &mut MlxSlots) {
        slots.idle();
    }

    fn cost(&self, config: &ModelConfig) -> SequenceCost {
        let size = matrix::size_of(self.dtype);
        let of = |kind| config.layers.iter().filter(|&&mixer| mixer == kind).count() as u64;
        let (attention, delta) = (&config.attention, &config.delta);
        let state = 4 * delta.state_len() as u64 + (size * config.conv.tail_len()) as u64;
        let head = self.kv_cache.head_bytes(attention.head_dim, size);
        let token = (attention.kv_heads * head) as u64;
        SequenceCost {
            fixed: of(Mixer::Delta) * state,
            // The pools grow by a quarter at a time.
            per_token: of(Mixer::Attention) * token / 4 * 5,
            kv_cache: self.kv_cache,
            page: pages::PAGE,
        }
    }

    fn warm_up(&self) -> &[usize] {
        &[1, 9, 17, 33, matrix::CROSSOVER]
    }

    fn begin(&self, slots: &mut MlxSlots, segments: &[BatchSegment]) {
        slots.begin(segments);
    }

    fn finish(&self, slots: &mut MlxSlots, logits: Option<Array>) -> Option<Array> {
        let logits = logits.map(|logits| f32(&logits));
        let kept = slots.finish();
        match &logits {
            // `read` waits for them; until then the device works concurrently.
            Some(logits) => must(async_eval(kept.iter().chain([logits]))),
            None => must(eval(&kept)),
        }
        logits
    }

    fn layer_done(&self, layer: usize, x: &Array) {
        // The device starts while the rest of the pass is still being enqueued.
        if self.fused.is_some() && layer % LAYERS_AHEAD == LAYERS_AHEAD - 1 {
            must(async_eval([x]));
        }
    }

    fn embed(&self, matrix: &MlxMatrix, tokens: Tokens<'_, Chosen>) -> Array {
        match tokens {
            Tokens::Known(tokens) => {
                let tokens = Array::from_slice(tokens, &[dim(tokens.len())]);
                f32(&matrix.gather(&tokens))
            }
            Tokens::Chosen(chosen) => f32(&matrix.gather(chosen.tokens())),
        }
    }

    fn project<const W: usize>(&self, x: &Array, matrices: [&MlxMatrix; W]) -> [Array; W] {
        let fused = self.fused.as_ref();
        if let Some(products) = fused.and_then(|f| f.products(x, matrices)) {
            return products;
        }
        let n = x.shape()[0] as usize;
        matrices.map(|matrix| {
            let alone = fused.and_then(|f| f.products(x, [matrix]));
            alone.map_or_else(
                || matrix.product(&cast(x, matrix.dtype()), n),
                |[product]| product,
            )
        })
    }

    fn project_summand(&self, x: &Array, matrix: &MlxMatrix) -> Array {
        let fused = self.fused.as_ref();
        fused.and_then(|f| f.parts(x, matrix)).unwrap_or_else(|| {
            let [product] = self.project(x, [matrix]);
            product
        })
    }

    fn add(&self, x: Array, y: &Array) -> Array {
        // In parts, as `project_summand` may leave it.
        if y.ndim() == 3 {
            return x + must(y.sum_axis(0, false));
        }
        x + y
    }

    fn add_bias(&self, x: Array, bias: &MlxVector) -> Array {
        x + &bias.rounded
    }

    fn rms_norm(&self, x: &Array, weight: &MlxVector, eps: f32) -> Array {
        must(rms_norm(x, Some(&weight.exact), eps))
    }

    fn add_norm(&self, x: Array, y: &Array, weight: &MlxVector, eps: f32) -> [Array; 2] {
        match &self.fused {
            Some(fused) => fused.add_norm(&x, y, &weight.exact, eps, self.dtype),
            None => {
                let sum = x + y;
                let normed = self.rms_norm(&sum, weight, eps);
                [sum, normed]
            }
        }
    }

    fn swiglu(&self, gate: Array, up: &Array) -> Array {
        if let Some(out) = self.fused.as_ref().and_then(|f| f.swiglu(&gate, up)) {
            return out;
        }
        silu(&f32(&gate)) * up
    }

    fn project_gated(&self, x: &Array, matrices: [&MlxMatrix; 2]) -> Array {
        if let Some(out) = self.fused.as_ref().and_then(|f| f.gated(x, matrices)) {
            return out;
        }
        let [gate, up] = self.project(x, matrices);
        self.swiglu(gate, &up)
    }

    fn experts(&self, weights: &ExpertsWeights<MlxMatrix, MlxExperts>, x: &Array) -> Array {
        experts::mixture(self, self.fused.as_ref(), weights, x)
    }

    fn select_rows(&self, x: &Array, some: &[usize]) -> Array {
        rows(x, &ops::indices(some.iter().copied()))
    }

    fn attention(
        &self,
        config: &ModelConfig,
        weights: &AttentionWeights<MlxMatrix, MlxVector>,
        layer: usize,
        _segments: &[BatchSegment],
        slots: &mut MlxSlots,
        q: Array,
        k: Array,
        v: Array,
    ) -> Array {
        let (LayerState::Attention(memory), plan, table) = slots.layer(layer) else {
            unreachable!("layer {layer} is one of attention");
        };
        let p = self.attention_parameters(config, weights);
        let (dims, width) = (&config.attention, config.attention.head_dim);
        let fused = self.fused.as_ref().filter(|f| f.attends(dims));
        // The kernels compute plain frequencies themselves.
        let plain = config.rope_scaling == RopeScaling::None && self.kv_cache == KvMode::Plain;
        if let Some(fused) = fused.filter(|f| plain && f.stores()) {
            let row = [dims.kv_heads, width];
            let (pools, query) = memory.store(row, q.dtype(), table, |pools| {
                fused.placed_store(&p, [&q, &k, &v], pools, plan)
            });
            return fused.attend(dims, self.kv_cache, &query, &q, &pools, plan);
        }
        let values = attention::heads(&p, &v);
        let mut rows = match (self.kv_cache.bits(), fused) {
            (None, _) => vec![values],
            (Some(bits), Some(fused)) => fused.packed(&values, bits),
            (Some(bits), None) => packed::packed(&values, bits),
        };
        if let Some(fused) = fused {
            let [query, key] = match config.rope_scaling {
                RopeScaling::None => [
                    fused.placed(&p, &q, p.q_norm, [dims.heads, 2 * width], plan),
                    fused.placed(&p, &k, p.k_norm, [dims.kv_heads, width], plan),
                ],
                _ => {
                    let [query, _] = attention::queries(&p, &q, plan);
                    [query, attention::keys(&p, &k, plan)]
                }
            };
            rows.insert(0, key);
            let pools = memory.write(&rows, plan, table);
            return fused.attend(dims, self.kv_cache, &query, &q, &pools, plan);
        }
        let [q, gate] = attention::queries(&p, &q, plan);
        rows.insert(0, attention::keys(&p, &k, plan));
        let pools = memory.write(&rows, plan, table);
        attention::attend(&p, self.kv_cache, &q, &gate, &pools, plan)
    }

    fn short_conv(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<MlxMatrix, MlxVector>,
        layer: usize,
        _segments: &[BatchSegment],
        slots: &mut MlxSlots,
        qkv: Array,
    ) -> Array {
        let (LayerState::Delta(memory), plan, _) = slots.layer(layer) else {
            unreachable!("layer {layer} is one of the delta rule");
        };
        let dims = &config.conv;
        let weight = reshape(&weights.conv.exact, &[dim(dims.channels), dim(dims.kernel)]);
        let tails = memory.tails.take();
        let (tails, plan) = (tails.as_ref(), &plan.recurrent);
        let fused = self.fused.as_ref();
        let (out, tails) = fused
            .and_then(|f| f.short_conv(dims, &qkv, &weight, tails, plan))
            .unwrap_or_else(|| recurrent::short_conv(dims, &qkv, &weight, tails, plan));
        memory.tails = tails;
        out
    }

    fn gated_delta(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<MlxMatrix, MlxVector>,
        layer: usize,
        _segments: &[BatchSegment],
        slots: &mut MlxSlots,
        qkv: Array,
        z: &Array,
        a: &Array,
        b: &Array,
    ) -> Array {
        let (LayerState::Delta(memory), plan, _) = slots.layer(layer) else {
            unreachable!("layer {layer} is one of the delta rule");
        };
        let dims = &config.delta;
        let p = recurrent::DeltaParameters {
            dims,
            a_log: &weights.a_log.exact,
            dt_bias: &weights.dt_bias.exact,
        };
        let states = memory.states.take();
        let (states, plan) = (states.as_ref(), &plan.recurrent);
        let inputs = [&qkv, a, b];
        let fused = self.fused.as_ref();
        let (y, states) = fused
            .and_then(|f| f.gated_delta(dims, inputs, [p.a_log, p.dt_bias], states, plan))
            .unwrap_or_else(|| recurrent::gated_delta(&p, inputs, states, plan));
        memory.states = Some(states);
        let (norm, eps) = (&weights.norm.exact, config.rms_eps);
        if let Some(out) = fused.and_then(|f| f.gated_norm(&y, z, norm, eps)) {
            return out;
        }
        let normed = must(rms_norm(y, Some(norm), eps));
        let width = dim(dims.value_heads * dims.value_dim);
        silu(&f32(z)) * reshape(&normed, &[-1, width])
    }

    fn delta(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<MlxMatrix, MlxVector>,
        layer: usize,
        segments: &[BatchSegment],
        slots: &mut MlxSlots,
        qkv: Array,
        z: &Array,
        a: &Array,
        b: &Array,
    ) -> Array {
        if let Some(fused) = &self.fused {
            let (LayerState::Delta(memory), plan, _) = slots.layer(layer) else {
                unreachable!("layer {layer} is one of the delta rule");
            };
            let weights = [
                &weights.conv.exact,
                &weights.a_log.exact,
                &weights.dt_bias.exact,
                &weights.norm.exact,
            ];
            let inputs = [&qkv, a, b, z];
            if plan.each_alone()
                && let Some(out) =
                    fused.delta_step(config, weights, memory, inputs, &plan.recurrent)
            {
                return out;
            }
        }
        let qkv = self.short_conv(config, weights, layer, segments, slots, qkv);
        self.gated_delta(config, weights, layer, segments, slots, qkv, z, a, b)
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn read(&self, x: Array) -> Vec<f32> {
        must(eval([&x]));
        x.as_slice::<f32>().to_vec()
    }

    fn argmax(&self, logits: &Array, masks: &[Option<Mask>]) -> Option<Chosen> {
        Some(Chosen::argmax(logits, masks))
    }

    fn tokens(&self, chosen: &Chosen) -> Vec<Option<u32>> {
        chosen.read()
    }
}
