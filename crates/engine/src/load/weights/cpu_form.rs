//! Matrices as the cpu backend keeps them: codes of 4 and 8 bits and plain numbers stay where they lie, codes of other widths are
//! copied and widened, which changes no product.

use sanctum_kernels::cpu::{self, Pool};
use sanctum_manifest::Bytes;

use super::HostWeights;
use super::experts::HostExperts;
use super::matrix::{HostMatrix, Storage};
use crate::load::model_config::AffineQuantization;

/// The bits that codes of `bits` bits have there.
fn widened_bits(bits: u8) -> u8 {
    cpu::widened_bits(bits).expect("the bits were checked when the matrix was read")
}

impl HostMatrix {
    /// The matrix as the cpu backend keeps it.
    pub fn on_cpu(self, pool: &Pool) -> Self {
        match self.storage {
            Storage::Affine {
                affine,
                packed,
                float,
                scales,
                biases,
            } if widened_bits(affine.bits) != affine.bits => Self {
                storage: Storage::Affine {
                    affine: AffineQuantization {
                        bits: widened_bits(affine.bits),
                        ..affine
                    },
                    packed: Bytes::new(cpu::widen_codes(pool, affine.bits, &packed)),
                    float,
                    scales,
                    biases,
                },
                ..self
            },
            storage => Self { storage, ..self },
        }
    }

    /// Bytes of it there.
    pub fn cpu_bytes(&self) -> usize {
        match &self.storage {
            Storage::Affine { affine, packed, .. } => {
                let [narrow, wide] = [affine.bits, widened_bits(affine.bits)].map(usize::from);
                self.bytes() - packed.len() + packed.len() / narrow * wide
            }
            Storage::Dense { .. } => self.bytes(),
        }
    }

    /// Whether it is copied.
    fn is_copied(&self) -> bool {
        match &self.storage {
            Storage::Affine { affine, .. } => widened_bits(affine.bits) != affine.bits,
            Storage::Dense { .. } => false,
        }
    }
}

impl HostExperts {
    /// The experts as the cpu backend keeps them.
    pub fn on_cpu(self, pool: &Pool) -> Self {
        self.map(|matrix| matrix.on_cpu(pool))
    }
}

impl HostWeights {
    /// Bytes of all matrices as the cpu backend keeps them.
    pub fn cpu_bytes(&self) -> u64 {
        self.bytes_by(HostMatrix::cpu_bytes)
    }

    /// Those of them that are copied: unlike mapped ones, the system cannot drop them where memory is scarce.
    pub fn copied_bytes(&self) -> u64 {
        self.bytes_by(|matrix| match matrix.is_copied() {
            true => matrix.cpu_bytes(),
            false => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use sanctum_kernels::cpu::{Cpu, Float, Matrix, Precision};

    use super::*;

    /// A matrix `[rows, 64]` of codes that count up.
    fn matrix(bits: u8, rows: usize) -> HostMatrix {
        let codes: Vec<u64> = (0..rows as u64 * 64).map(|i| i % (1 << bits)).collect();
        let eight = |codes: &[u64]| {
            let codes = codes.iter().rev();
            let stream = codes.fold(0_u64, |stream, code| stream << bits | *code);
            stream.to_le_bytes()[..usize::from(bits)].to_vec()
        };
        let packed: Vec<u8> = codes.chunks(8).flat_map(eight).collect();
        let numbers = |number: f32| Bytes::new(number.to_le_bytes().repeat(2 * rows));
        HostMatrix {
            rows,
            cols: 64,
            storage: Storage::Affine {
                affine: AffineQuantization { bits, group: 32 },
                packed: Bytes::new(packed),
                float: Float::F32,
                scales: numbers(0.5),
                biases: numbers(-3.0),
            },
        }
    }

    fn product(cpu: &Cpu, matrix: Matrix<'_>) -> Vec<f32> {
        let mut out = vec![0.0; matrix.rows()];
        let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
        cpu::project(cpu, Precision::Exact, &x, 64, &mut [(matrix, &mut out)]);
        out
    }

    #[test]
    fn every_width_is_multiplied() {
        let cpu = Cpu::new(2);
        for (bits, wide) in [(2, 4), (3, 4), (4, 4), (5, 8), (6, 8), (8, 8)] {
            let narrow = matrix(bits, 3);
            let bytes = narrow.cpu_bytes();
            assert_eq!(bytes, 3 * (64 * wide / 8 + 16));
            assert_eq!(narrow.is_copied(), usize::from(bits) != wide);
            let kept = narrow.on_cpu(&cpu.pool);
            assert_eq!(kept.bytes(), bytes);
            let weight = |i: usize| (i % (1 << bits)) as f32 * 0.5 - 3.0;
            let row = |row: usize| {
                (0..64)
                    .map(|i| weight(64 * row + i) * i as f32)
                    .sum::<f32>()
            };
            assert_eq!(product(&cpu, kept.view()), [row(0), row(1), row(2)]);
        }
    }

    #[test]
    fn experts_of_every_layout_are_widened() {
        let pool = Pool::new(1);
        let stacked = HostExperts::stacked(matrix(3, 6), 3);
        let apart = HostExperts::apart([0, 1, 2].map(|_| matrix(3, 2)).to_vec());
        for experts in [stacked, apart] {
            let bytes = experts.expert_bytes_by(HostMatrix::cpu_bytes);
            let kept = experts.on_cpu(&pool);
            assert_eq!((kept.count(), kept.expert_bytes()), (3, bytes));
            assert_eq!(kept.view(2).bytes(), bytes);
        }
    }
}
