//! The CPU backend: `sanctum-kernels` on all cores. Weights are multiplied in place, where their file is mapped.

mod slots;
mod snapshot;

use std::convert::Infallible;
use std::fmt;

use sanctum_kernels::cpu::{
    self, AttentionInput, Cpu, DeltaInput, KvCache, KvType, Matrix, Pool, Precision,
};
use sanctum_kernels::{KvMode, Rope};

use self::slots::{CpuSlots, LayerState};
use self::snapshot::CpuSnapshot;
use super::expert_reads::{ExpertReadCounter, ExpertReads};
use super::{Backend, Tokens};
use crate::backend::batch::{BatchSegment, SlotId};
use crate::backend::cost::SequenceCost;
use crate::load::model_config::{Mixer, ModelConfig};
use crate::load::weights::{
    AttentionWeights, DeltaWeights, ExpertsWeights, GatedWeights, HostExperts, HostMatrix,
    MatrixRole,
};

/// The cores of this machine.
#[derive(Debug)]
pub struct CpuBackend {
    cpu: Cpu,
    precision: Precision,
    kv_cache: KvMode,
    rope: Rope,
    expert_reads: ExpertReadCounter,
}

/// Activations, `[rows, width]`.
#[derive(Clone)]
pub struct CpuTensor {
    data: Vec<f32>,
    width: usize,
}

impl CpuTensor {
    fn zeros(rows: usize, width: usize) -> Self {
        Self {
            data: vec![0.0; rows * width],
            width,
        }
    }

    fn rows(&self) -> usize {
        self.data.len() / self.width
    }
}

impl fmt::Debug for CpuTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.rows(), self.width)
    }
}

impl CpuBackend {
    /// Runs models of shape `config` on `threads` threads, with a plain KV cache.
    pub fn new(config: &ModelConfig, threads: usize, precision: Precision) -> Self {
        Self {
            cpu: Cpu::new(threads),
            precision,
            kv_cache: KvMode::Plain,
            rope: config.rope(),
            expert_reads: ExpertReadCounter::default(),
        }
    }

    /// Keeps values in another way, which must fit the model's heads ([`KvMode::fit`]).
    pub fn with_kv_cache(self, kv_cache: KvMode) -> Self {
        Self { kv_cache, ..self }
    }

    fn kv_type(&self) -> KvType {
        match self.precision {
            Precision::Exact => KvType::F32,
            Precision::Fast => KvType::F16,
        }
    }

    /// The threads and instructions it uses.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }
}

impl Backend for CpuBackend {
    type Tensor = CpuTensor;
    type Matrix = HostMatrix;
    type Experts = HostExperts;
    type Vector = Vec<f32>;
    type Slots = CpuSlots;
    /// Logits are on the host already.
    type Chosen = Infallible;
    type Snapshot = CpuSnapshot;

    fn matrix(&self, matrix: HostMatrix, _role: MatrixRole) -> HostMatrix {
        matrix.on_cpu(&self.cpu.pool)
    }

    fn expert_matrices(&self, experts: HostExperts) -> HostExperts {
        experts.on_cpu(&self.cpu.pool)
    }

    fn vector(&self, vector: Vec<f32>) -> Vec<f32> {
        vector
    }

    fn slots(&self, config: &ModelConfig, count: usize) -> CpuSlots {
        let empty = KvCache::new(&config.attention, self.kv_type(), self.kv_cache);
        CpuSlots::new(config, &empty, count)
    }

    fn clear(&self, slots: &mut CpuSlots, slot: SlotId) {
        slots.clear(slot);
    }

    fn snapshot(&self, slots: &mut CpuSlots, slot: SlotId) -> CpuSnapshot {
        CpuSnapshot::of(slots.layers(slot))
    }

    fn restore(&self, slots: &mut CpuSlots, slot: SlotId, snapshot: &CpuSnapshot) {
        slots.fill(slot, snapshot.layers().to_vec());
    }

    fn release(&self, _slots: &mut CpuSlots, snapshot: CpuSnapshot) {
        drop(snapshot);
    }

    fn pages(&self, _slots: &CpuSlots, snapshot: &CpuSnapshot) -> Vec<u64> {
        snapshot.pages()
    }

    fn export(&self, _slots: &mut CpuSlots, snapshot: &CpuSnapshot, from: usize) -> Vec<u8> {
        snapshot.export(from)
    }

    fn import(
        &self,
        slots: &mut CpuSlots,
        parent: Option<&CpuSnapshot>,
        bytes: &[u8],
    ) -> Result<CpuSnapshot, String> {
        CpuSnapshot::import(slots.fresh(), parent, bytes)
    }

    fn cost(&self, config: &ModelConfig) -> SequenceCost {
        let of = |kind| config.layers.iter().filter(|&&mixer| mixer == kind).count() as u64;
        let cache = KvCache::new(&config.attention, self.kv_type(), self.kv_cache);
        let state = 4 * (config.delta.state_len() + config.conv.tail_len()) as u64;
        SequenceCost {
            fixed: of(Mixer::Delta) * state,
            per_token: of(Mixer::Attention) * cache.bytes_per_token() as u64,
            kv_cache: self.kv_cache,
            page: KvCache::PAGE,
        }
    }

    fn embed(&self, matrix: &HostMatrix, tokens: Tokens<'_, Infallible>) -> CpuTensor {
        let tokens = match tokens {
            Tokens::Known(tokens) => tokens,
            Tokens::Chosen(&never) => match never {},
        };
        let mut out = CpuTensor::zeros(tokens.len(), matrix.cols);
        cpu::gather(&self.cpu, matrix.view(), tokens, &mut out.data);
        out
    }

    fn project<const W: usize>(&self, x: &CpuTensor, matrices: [&HostMatrix; W]) -> [CpuTensor; W] {
        let mut outs = matrices.map(|matrix| CpuTensor::zeros(x.rows(), matrix.rows));
        let mut jobs: Vec<(Matrix<'_>, &mut [f32])> = matrices
            .iter()
            .zip(&mut outs)
            .map(|(matrix, out)| (matrix.view(), &mut out.data[..]))
            .collect();
        cpu::project(&self.cpu, self.precision, &x.data, x.width, &mut jobs);
        outs
    }

    fn add(&self, mut x: CpuTensor, y: &CpuTensor) -> CpuTensor {
        cpu::add(&self.cpu, &mut x.data, &y.data);
        x
    }

    fn add_bias(&self, mut x: CpuTensor, bias: &Vec<f32>) -> CpuTensor {
        for row in x.data.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
        x
    }

    fn rms_norm(&self, x: &CpuTensor, weight: &Vec<f32>, eps: f32) -> CpuTensor {
        let mut out = CpuTensor::zeros(x.rows(), x.width);
        cpu::rms_norm(&self.cpu, &x.data, weight, eps, &mut out.data);
        out
    }

    fn swiglu(&self, gate: CpuTensor, up: &CpuTensor) -> CpuTensor {
        let mut out = CpuTensor::zeros(gate.rows(), gate.width);
        cpu::swiglu(&self.cpu, &gate.data, &up.data, &mut out.data);
        out
    }

    fn experts(
        &self,
        weights: &ExpertsWeights<HostMatrix, HostExperts>,
        x: &CpuTensor,
    ) -> CpuTensor {
        let GatedWeights { gate, up, down } = &weights.experts;
        let parameters = cpu::ExpertsParams {
            router: weights.router.view(),
            expert: &|expert| cpu::GatedMatrices {
                gate: gate.view(expert),
                up: up.view(expert),
                down: down.view(expert),
            },
            shared: weights
                .shared
                .as_ref()
                .map(|shared| cpu::SharedExpertParams {
                    gate: shared.gate.view(),
                    matrices: cpu::GatedMatrices {
                        gate: shared.block.gate.view(),
                        up: shared.block.up.view(),
                        down: shared.block.down.view(),
                    },
                }),
        };
        let mut out = CpuTensor::zeros(x.rows(), x.width);
        let (cpu, precision) = (&self.cpu, self.precision);
        let read = cpu::experts(
            cpu,
            precision,
            &weights.dims,
            &parameters,
            &x.data,
            &mut out.data,
        );
        self.expert_reads.count(read);
        out
    }

    fn expert_reads(&self) -> Option<ExpertReads> {
        Some(self.expert_reads.reads())
    }

    fn select_rows(&self, x: &CpuTensor, rows: &[usize]) -> CpuTensor {
        let data = rows
            .iter()
            .flat_map(|row| &x.data[row * x.width..(row + 1) * x.width])
            .copied()
            .collect();
        CpuTensor {
            data,
            width: x.width,
        }
    }

    fn attention(
        &self,
        config: &ModelConfig,
        weights: &AttentionWeights<HostMatrix, Vec<f32>>,
        layer: usize,
        segments: &[BatchSegment],
        slots: &mut CpuSlots,
        q: CpuTensor,
        k: CpuTensor,
        v: CpuTensor,
    ) -> CpuTensor {
        let dims = &config.attention;
        let mut out = CpuTensor::zeros(q.rows(), dims.heads * dims.head_dim);
        let mut segments = slots.segments(layer, segments, |memory| match memory {
            LayerState::Attention(cache) => Some(cache),
            LayerState::Delta { .. } => None,
        });
        let weights = cpu::AttentionParams {
            q_norm: &weights.q_norm,
            k_norm: &weights.k_norm,
            eps: config.rms_eps,
            rope: &self.rope,
        };
        let input = AttentionInput {
            q_gate: &q.data,
            k: &k.data,
            v: &v.data,
        };
        cpu::attention(
            &self.cpu,
            dims,
            weights,
            input,
            &mut segments,
            &mut out.data,
        );
        out
    }

    fn short_conv(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<HostMatrix, Vec<f32>>,
        layer: usize,
        segments: &[BatchSegment],
        slots: &mut CpuSlots,
        qkv: CpuTensor,
    ) -> CpuTensor {
        let mut out = CpuTensor::zeros(qkv.rows(), qkv.width);
        let mut segments = slots.segments(layer, segments, |memory| match memory {
            LayerState::Delta { tail, .. } => Some(&mut tail[..]),
            LayerState::Attention(_) => None,
        });
        let (cpu, dims) = (&self.cpu, &config.conv);
        cpu::short_conv(
            cpu,
            dims,
            &qkv.data,
            &weights.conv,
            &mut segments,
            &mut out.data,
        );
        out
    }

    fn gated_delta(
        &self,
        config: &ModelConfig,
        weights: &DeltaWeights<HostMatrix, Vec<f32>>,
        layer: usize,
        segments: &[BatchSegment],
        slots: &mut CpuSlots,
        qkv: CpuTensor,
        z: &CpuTensor,
        a: &CpuTensor,
        b: &CpuTensor,
    ) -> CpuTensor {
        let mut y = CpuTensor::zeros(qkv.rows(), z.width);
        let mut segments = slots.segments(layer, segments, |memory| match memory {
            LayerState::Delta { state, .. } => Some(&mut state[..]),
            LayerState::Attention(_) => None,
        });
        let parameters = cpu::DeltaParams {
            a_log: &weights.a_log,
            dt_bias: &weights.dt_bias,
        };
        let input = DeltaInput {
            qkv: &qkv.data,
            a: &a.data,
            b: &b.data,
        };
        let cpu = &self.cpu;
        cpu::gated_delta(
            cpu,
            &config.delta,
            parameters,
            input,
            &mut segments,
            &mut y.data,
        );
        let mut out = CpuTensor::zeros(y.rows(), y.width);
        cpu::gated_norm(
            cpu,
            &y.data,
            &z.data,
            &weights.norm,
            config.rms_eps,
            &mut out.data,
        );
        out
    }

    fn pool(&self) -> &Pool {
        &self.cpu.pool
    }

    fn read(&self, x: CpuTensor) -> Vec<f32> {
        x.data
    }

    fn tokens(&self, chosen: &Infallible) -> Vec<Option<u32>> {
        match *chosen {}
    }
}
