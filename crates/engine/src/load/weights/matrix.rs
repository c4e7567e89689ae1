//! A matrix as a checkpoint stores it.

use std::ops::Range;

use sanctum_kernels::cpu::{self, BlockFormat, Float};
use sanctum_manifest::Bytes;

use crate::load::model_config::{AffineQuantization, ModuleQuantization};

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
    /// Small floating-point elements with a scale a block.
    Blocks {
        /// Their format.
        format: BlockFormat,
        /// `[rows, cols * bits / 32]` little-endian words, the first element in the lowest bits.
        packed: Bytes,
        /// `[rows, cols / block]` bytes.
        scales: Bytes,
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
            Storage::Blocks { packed, scales, .. } => packed.len() + scales.len(),
        }
    }

    /// As the CPU kernels take it, once it is as [`Self::on_cpu`] leaves it.
    pub fn view(&self) -> cpu::Matrix<'_> {
        self.view_rows(0..self.rows)
    }

    /// Some of its rows, as the CPU kernels take them.
    ///
    /// # Panics
    /// If it has fewer rows, codes of other widths than 4 and 8 bits, or blocks.
    pub fn view_rows(&self, rows: Range<usize>) -> cpu::Matrix<'_> {
        let count = rows.len();
        match &self.storage {
            Storage::Dense { float, data } => {
                let data = &data[self.within(data, &rows)];
                cpu::Dense::new(count, self.cols, data, *float).map(Into::into)
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
                    packed: &packed[self.within(packed, &rows)],
                    scales: &scales[self.within(scales, &rows)],
                    biases: &biases[self.within(biases, &rows)],
                    float: *float,
                };
                cpu::Affine::new(count, self.cols, parts).map(Into::into)
            }
            Storage::Blocks { format, .. } => panic!("{format} is not multiplied as it is stored"),
        }
        .expect("the shapes were checked when the matrix was read, and on_cpu widened its codes")
    }

    /// The bytes of some rows within a part.
    fn within(&self, part: &Bytes, rows: &Range<usize>) -> Range<usize> {
        let row = part.len() / self.rows.max(1);
        rows.start * row..rows.end * row
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
            Storage::Blocks { packed, scales, .. } => vec![packed, scales],
        }
    }

    /// The same of some rows.
    pub(super) fn row_parts(&self, rows: Range<usize>) -> Vec<Bytes> {
        let slice = |part: &Bytes| part.slice(self.within(part, &rows));
        self.parts().into_iter().map(slice).collect()
    }

    /// Whether another matrix has the same shape and form.
    pub fn is_alike(&self, other: &Self) -> bool {
        let form = |matrix: &Self| match &matrix.storage {
            Storage::Dense { float, .. } => (Some(*float), None),
            Storage::Affine { affine, float, .. } => {
                (Some(*float), Some(ModuleQuantization::Affine(*affine)))
            }
            Storage::Blocks { format, .. } => (None, Some(ModuleQuantization::Blocks(*format))),
        };
        (self.rows, self.cols, form(self)) == (other.rows, other.cols, form(other))
    }

    /// Rows of matrices of one form and width, one below the other, copied.
    pub(super) fn stacked<'a>(pieces: impl Iterator<Item = (&'a Self, Range<usize>)>) -> Self {
        let (mut rows, mut parts, mut sample) = (0, Vec::<Vec<u8>>::new(), None);
        for (matrix, piece) in pieces {
            rows += piece.len();
            let pieces = matrix.row_parts(piece);
            parts.resize(pieces.len(), Vec::new());
            for (part, piece) in parts.iter_mut().zip(pieces) {
                part.extend_from_slice(&piece);
            }
            sample = Some(matrix);
        }
        let sample = sample.expect("a mixture has experts");
        let mut parts = parts.into_iter().map(Bytes::new);
        let mut part = || parts.next().expect("as many parts as the form has");
        Self {
            rows,
            cols: sample.cols,
            storage: match sample.storage {
                Storage::Dense { float, .. } => Storage::Dense {
                    float,
                    data: part(),
                },
                Storage::Affine { affine, float, .. } => Storage::Affine {
                    affine,
                    packed: part(),
                    float,
                    scales: part(),
                    biases: part(),
                },
                Storage::Blocks { format, .. } => Storage::Blocks {
                    format,
                    packed: part(),
                    scales: part(),
                },
            },
        }
    }
}
