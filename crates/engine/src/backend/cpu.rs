//! The CPU backend: `sanctum-kernels` on all cores. Weights are multiplied in place, where their file is mapped.

use std::convert::Infallible;
use std::fmt;

use sanctum_kernels::cpu::{
    self, AttentionInput, Cpu, DeltaInput, KvCache, KvType, Matrix, Pool, Precision,
};
use sanctum_kernels::{KvMode, Rope};

use super::{Backend, Tokens};
use crate::backend::batch::{Segment, SlotId};
use crate::backend::cost::SequenceCost;
use crate::load::model_config::{Mixer, ModelConfig};
use crate::load::weights::{AttentionWeights, DeltaWeights, HostMatrix, MatrixRole};

/// The cores of this machine.
#[derive(Debug)]
pub struct CpuBackend {
    cpu: Cpu,
    precision: Precision,
    kv_cache: KvMode,
    rope: Rope,
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

/// The state of one sequence in one layer.
#[derive(Clone, Debug)]
enum LayerState {
    Attention(KvCache),
    Delta {
        /// The last raw rows, `[kernel - 1, channels]`.
        tail: Vec<f32>,
        /// `[value_heads, value_dim, key_dim]`.
        state: Vec<f32>,
    },
}

/// The states of all sequences; a free slot is empty.
#[derive(Debug)]
pub struct CpuSlots {
    slots: Vec<Vec<LayerState>>,
    fresh: Vec<LayerState>,
}

impl CpuSlots {
    /// The part of a layer's state that `part` picks, for each segment, in order.
    fn segments<'a, S: ?Sized>(
        &'a mut self,
        layer: usize,
        segments: &[Segment],
        part: impl Fn(&'a mut LayerState) -> Option<&'a mut S>,
    ) -> Vec<cpu::Segment<'a, S>> {
        for segment in segments {
            let slot = &mut self.slots[segment.slot.0];
            if slot.is_empty() {
                slot.clone_from(&self.fresh);
            }
        }
        let mut memories: Vec<_> = self.slots.iter_mut().map(|s| s.get_mut(layer)).collect();
        segments
            .iter()
            .filter_map(|segment| {
                let memory = memories[segment.slot.0].take()?;
                let rows = segment.start..segment.start + segment.len;
                Some(cpu::Segment::new(rows, part(memory)?))
            })
            .collect()
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
    type Vector = Vec<f32>;
    type Slots = CpuSlots;
    /// Logits are on the host already.
    type Chosen = Infallible;

    fn matrix(&self, matrix: HostMatrix, _role: MatrixRole) -> HostMatrix {
        matrix
    }

    fn vector(&self, vector: Vec<f32>) -> Vec<f32> {
        vector
    }

    fn slots(&self, config: &ModelConfig, count: usize) -> CpuSlots {
        let empty = KvCache::new(&config.attention, self.kv_type(), self.kv_cache);
        let fresh = |mixer: &Mixer| match mixer {
            Mixer::Attention => LayerState::Attention(empty.clone()),
            Mixer::Delta => LayerState::Delta {
                tail: vec![0.0; config.conv.tail_len()],
                state: vec![0.0; config.delta.state_len()],
            },
        };
        CpuSlots {
            slots: (0..count).map(|_| Vec::new()).collect(),
            fresh: config.layers.iter().map(fresh).collect(),
        }
    }

    fn clear(&self, slots: &mut CpuSlots, slot: SlotId) {
        slots.slots[slot.0] = Vec::new();
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
        segments: &[Segment],
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
        segments: &[Segment],
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
        segments: &[Segment],
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
