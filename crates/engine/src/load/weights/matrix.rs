//! A matrix as a checkpoint stores it.

use sanctum_kernels::cpu::{self, Float};
use sanctum_manifest::Bytes;

use crate::load::model_config::AffineQuantization;

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
        affine: AffineQuantization,
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
