//! The pure Rust backend: `sanctum-kernels` on all cores, weights multiplied where they lie.

use std::mem;

use sanctum_kernels::cpu::{
    self, Affine, AttentionDims, Cpu, Dense, DeltaDims, KvCache, KvFormat, Matrix, Pool, Precision,
    Rope,
};

use super::Backend;
use crate::batch::{Segment, SlotId};
use crate::model_config::{Mixer, ModelConfig};
use crate::weights::{AttentionWeights, DeltaWeights, HostMatrix, Storage};

/// All cores of this machine.
#[derive(Debug)]
pub struct CpuBackend {
    cpu: Cpu,
    precision: Precision,
}

/// Activations, `[rows, width]`.
#[derive(Clone, Debug)]
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

/// What one layer remembers of one sequence.
#[derive(Clone, Debug)]
enum Memory {
    Attention(KvCache),
    Delta {
        /// The last raw rows, `[conv_kernel - 1, channels]`.
        tail: Vec<f32>,
        /// `[value_heads, value_dim, key_dim]`.
        state: Vec<f32>,
    },
}

/// The memory of all sequences, `[slot][layer]`; a slot that nobody holds has no layers.
#[derive(Debug)]
pub struct CpuSlots(Vec<Vec<Memory>>);

impl CpuBackend {
    /// Runs on `threads` threads.
    pub fn new(threads: usize, precision: Precision) -> Self {
        Self {
            cpu: Cpu::new(threads),
            precision,
        }
    }

    /// The threads and instructions it uses.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    fn memory(&self, config: &ModelConfig) -> Vec<Memory> {
        let delta = &config.delta;
        let format = match self.precision {
            Precision::Exact => KvFormat::F32,
            Precision::Fast => KvFormat::F16,
        };
        config
            .layers
            .iter()
            .map(|mixer| match mixer {
                Mixer::Attention => Memory::Attention(KvCache::new(
                    config.attention.kv_heads,
                    config.attention.head_dim,
                    format,
                )),
                Mixer::Delta => Memory::Delta {
                    tail: vec![0.0; (delta.conv_kernel - 1) * delta.channels()],
                    state: vec![0.0; delta.value_heads * delta.value_dim * delta.key_dim],
                },
            })
            .collect()
    }
}
