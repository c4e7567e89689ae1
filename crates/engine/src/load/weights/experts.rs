//! The matrices of all experts of a layer, as a checkpoint stores them.

use std::ops::Range;

use sanctum_kernels::cpu;
use sanctum_manifest::Bytes;

use super::matrix::HostMatrix;

/// A matrix `[rows, cols]` of each of the experts of a layer.
///
/// Checkpoints store the experts one below the other, gate and up projections in turn, or each by itself: a number of rows of
/// one large matrix for each expert, or a matrix. All of them are multiplied where they lie.
#[derive(Clone, Debug)]
pub struct HostExperts {
    /// Outputs of an expert.
    rows: usize,
    /// Experts.
    count: usize,
    place: ExpertRows,
}

#[derive(Clone, Debug)]
enum ExpertRows {
    /// Expert `e` has the rows from `first + e * stride` on.
    Stacked {
        matrix: HostMatrix,
        first: usize,
        stride: usize,
    },
    /// One matrix for each expert.
    Apart(Vec<HostMatrix>),
}

impl HostExperts {
    /// `count` experts one below the other.
    ///
    /// # Panics
    /// If the rows do not divide into so many parts.
    pub fn stacked(matrix: HostMatrix, count: usize) -> Self {
        Self::strided(matrix, count, 0, 1)
    }

    /// `count` experts, each with gate and up projection one below the other: the gates, and the up projections.
    ///
    /// # Panics
    /// If the rows do not divide into twice so many parts.
    pub fn interleaved(matrix: HostMatrix, count: usize) -> [Self; 2] {
        [0, 1].map(|part| Self::strided(matrix.clone(), count, part, 2))
    }

    /// One matrix for each expert.
    ///
    /// # Panics
    /// If there is none, or their shapes or forms differ.
    pub fn apart(matrices: Vec<HostMatrix>) -> Self {
        let first = matrices.first().expect("a mixture has experts");
        assert!(matrices.iter().all(|matrix| matrix.is_alike(first)));
        Self {
            rows: first.rows,
            count: matrices.len(),
            place: ExpertRows::Apart(matrices),
        }
    }

    /// Part `part` of `parts` parts of each expert.
    fn strided(matrix: HostMatrix, count: usize, part: usize, parts: usize) -> Self {
        assert!(matrix.rows.is_multiple_of(count * parts));
        let rows = matrix.rows / (count * parts);
        Self {
            rows,
            count,
            place: ExpertRows::Stacked {
                matrix,
                first: part * rows,
                stride: parts * rows,
            },
        }
    }

    /// How many experts there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Outputs of an expert.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs of an expert.
    pub fn cols(&self) -> usize {
        self.sample().cols
    }

    /// A matrix of the form that all have; it may have the rows of several experts.
    pub fn sample(&self) -> &HostMatrix {
        match &self.place {
            ExpertRows::Stacked { matrix, .. } => matrix,
            ExpertRows::Apart(matrices) => &matrices[0],
        }
    }

    /// An expert's matrix, as the CPU kernels take it.
    pub fn view(&self, expert: usize) -> cpu::Matrix<'_> {
        let (matrix, rows) = self.expert(expert);
        matrix.view_rows(rows)
    }

    /// The matrix that holds an expert, and its rows there.
    fn expert(&self, expert: usize) -> (&HostMatrix, Range<usize>) {
        match &self.place {
            ExpertRows::Stacked {
                matrix,
                first,
                stride,
            } => {
                let first = first + expert * stride;
                (matrix, first..first + self.rows)
            }
            ExpertRows::Apart(matrices) => (&matrices[expert], 0..self.rows),
        }
    }

    /// Bytes of all experts.
    pub fn bytes(&self) -> usize {
        self.count * self.expert_bytes()
    }

    /// Bytes of one expert.
    pub fn expert_bytes(&self) -> usize {
        self.expert_bytes_by(HostMatrix::bytes)
    }

    /// The same, with `bytes` of each matrix.
    pub fn expert_bytes_by(&self, bytes: impl Fn(&HostMatrix) -> usize) -> usize {
        let sample = self.sample();
        bytes(sample) / sample.rows * self.rows
    }

    /// The pieces of memory that the experts lie in.
    pub fn parts(&self) -> Vec<Bytes> {
        if let ExpertRows::Stacked { matrix, stride, .. } = &self.place
            && *stride == self.rows
        {
            return matrix.parts().into_iter().cloned().collect();
        }
        let experts = (0..self.count).map(|expert| self.expert(expert));
        experts
            .flat_map(|(matrix, rows)| matrix.row_parts(rows))
            .collect()
    }

    /// The experts after a change of each matrix that keeps its shape.
    pub(super) fn map(self, change: impl Fn(HostMatrix) -> HostMatrix) -> Self {
        let place = match self.place {
            ExpertRows::Stacked {
                matrix,
                first,
                stride,
            } => ExpertRows::Stacked {
                matrix: change(matrix),
                first,
                stride,
            },
            ExpertRows::Apart(matrices) => {
                ExpertRows::Apart(matrices.into_iter().map(change).collect())
            }
        };
        Self { place, ..self }
    }

    /// All experts one below the other, `[count * rows, cols]`; copied unless they lie so.
    pub fn into_stacked(self) -> HostMatrix {
        match self.place {
            ExpertRows::Stacked { matrix, stride, .. } if stride == self.rows => matrix,
            _ => {
                let experts = (0..self.count).map(|expert| self.expert(expert));
                HostMatrix::stacked(experts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sanctum_kernels::cpu::Float;

    use super::*;
    use crate::load::model_config::AffineQuantization;
    use crate::load::weights::Storage;

    /// Rows of 32 weights of 8 bits, each row all of one number.
    fn matrix(rows: &[u8]) -> HostMatrix {
        let bytes = |per_row: usize| {
            Bytes::new(
                rows.iter()
                    .flat_map(|&b| vec![b; per_row])
                    .collect::<Vec<u8>>(),
            )
        };
        HostMatrix {
            rows: rows.len(),
            cols: 32,
            storage: Storage::Affine {
                affine: AffineQuantization { bits: 8, group: 32 },
                packed: bytes(32),
                float: Float::F16,
                scales: bytes(2),
                biases: bytes(2),
            },
        }
    }

    fn rows(matrix: &HostMatrix) -> Vec<u8> {
        let [packed, scales, biases] = matrix.parts()[..] else {
            panic!("three parts");
        };
        assert_eq!(scales, biases);
        assert_eq!(scales.len(), packed.len() / 16);
        packed.chunks(32).map(|row| row[0]).collect()
    }

    #[test]
    fn experts_are_the_same_in_every_layout() {
        let stacked = HostExperts::stacked(matrix(&[1, 2, 3, 4, 5, 6]), 3);
        let apart = HostExperts::apart(vec![matrix(&[1, 2]), matrix(&[3, 4]), matrix(&[5, 6])]);
        let [gate, up] = HostExperts::interleaved(matrix(&[1, 2, 9, 8, 3, 4, 7, 6, 5, 6, 5, 4]), 3);
        for experts in [&stacked, &apart, &gate] {
            assert_eq!(
                [experts.count(), experts.rows(), experts.cols()],
                [3, 2, 32]
            );
            assert_eq!(experts.bytes(), 6 * (32 + 2 + 2));
            let parts: Vec<u8> = experts
                .parts()
                .iter()
                .flat_map(|part| part.to_vec())
                .collect();
            assert_eq!(parts.len(), experts.bytes());
            assert_eq!(experts.view(1).rows(), 2);
            assert_eq!(experts.view(1).bytes(), experts.expert_bytes());
            assert_eq!(rows(&experts.clone().into_stacked()), [1, 2, 3, 4, 5, 6]);
        }
        assert_eq!(rows(&up.into_stacked()), [9, 8, 7, 6, 5, 4]);
    }
}
