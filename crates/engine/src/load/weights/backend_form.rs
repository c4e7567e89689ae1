//! Matrices as the backends keep them. Most stay where they lie. Blocks become affine weights or plain numbers on both backends,
//! and codes of other widths than 4 and 8 bits are widened on the cpu backend: both are copies, and exact.

use sanctum_kernels::cpu::{self, BlockFormat, Float, Pool};
use sanctum_manifest::Bytes;

use super::HostWeights;
use super::experts::HostExperts;
use super::matrix::{HostMatrix, Storage};
use crate::load::model_config::AffineQuantization;

/// What mxfp4 becomes, with scales and biases in bf16.
const OF_MXFP4: AffineQuantization = AffineQuantization { bits: 8, group: 32 };

/// The bits that codes of `bits` bits have on the cpu backend.
fn widened_bits(bits: u8) -> u8 {
    cpu::widened_bits(bits).expect("the bits were checked when the matrix was read")
}

impl HostMatrix {
    /// The matrix without blocks: mxfp4 as affine weights of 8 bits, mxfp8 and nvfp4 as bf16.
    pub fn unblocked(self, pool: &Pool) -> Self {
        let storage = match self.storage {
            Storage::Blocks {
                format: BlockFormat::MxFp4,
                packed,
                scales,
            } => {
                let parts = cpu::affine_of_mxfp4(pool, &packed, &scales);
                let [packed, scales, biases] = parts.map(Bytes::new);
                Storage::Affine {
                    affine: OF_MXFP4,
                    packed,
                    float: Float::Bf16,
                    scales,
                    biases,
                }
            }
            Storage::Blocks {
                format,
                packed,
                scales,
            } => Storage::Dense {
                float: Float::Bf16,
                data: Bytes::new(cpu::bf16_of_blocks(pool, format, &packed, &scales)),
            },
            other => other,
        };
        Self { storage, ..self }
    }

    /// Bytes of [`Self::unblocked`].
    pub fn unblocked_bytes(&self) -> usize {
        match &self.storage {
            Storage::Blocks { format, scales, .. } => match format {
                BlockFormat::MxFp4 => self.rows * self.cols + 4 * scales.len(),
                BlockFormat::MxFp8 | BlockFormat::NvFp4 => 2 * self.rows * self.cols,
            },
            Storage::Affine { .. } | Storage::Dense { .. } => self.bytes(),
        }
    }

    /// The matrix as the cpu backend keeps it.
    pub fn on_cpu(self, pool: &Pool) -> Self {
        let matrix = self.unblocked(pool);
        match matrix.storage {
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
                ..matrix
            },
            storage => Self { storage, ..matrix },
        }
    }

    /// Bytes of [`Self::on_cpu`].
    pub fn cpu_bytes(&self) -> usize {
        match &self.storage {
            Storage::Affine { affine, packed, .. } => {
                let [narrow, wide] = [affine.bits, widened_bits(affine.bits)].map(usize::from);
                self.bytes() - packed.len() + packed.len() / narrow * wide
            }
            Storage::Blocks { .. } | Storage::Dense { .. } => self.unblocked_bytes(),
        }
    }

    /// Whether [`Self::on_cpu`] copies it.
    fn is_copied(&self) -> bool {
        match &self.storage {
            Storage::Affine { affine, .. } => widened_bits(affine.bits) != affine.bits,
            Storage::Blocks { .. } => true,
            Storage::Dense { .. } => false,
        }
    }
}

impl HostExperts {
    /// The experts without blocks.
    pub fn unblocked(self, pool: &Pool) -> Self {
        self.map(|matrix| matrix.unblocked(pool))
    }

    /// The experts as the cpu backend keeps them.
    pub fn on_cpu(self, pool: &Pool) -> Self {
        self.map(|matrix| matrix.on_cpu(pool))
    }
}

impl HostWeights {
    /// Bytes of all matrices without blocks, as MLX keeps them.
    pub fn unblocked_bytes(&self) -> u64 {
        self.bytes_by(HostMatrix::unblocked_bytes)
    }

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
    use sanctum_kernels::cpu::{Cpu, Matrix, Precision};

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

    #[test]
    fn blocks_are_multiplied_in_either_form() {
        let cpu = Cpu::new(2);
        for (format, one, scale, bits) in [
            (BlockFormat::MxFp4, 0x22, 128, 9),
            (BlockFormat::MxFp8, 0x38, 128, 16),
            (BlockFormat::NvFp4, 0x22, 0x40, 16),
        ] {
            // Every element is 1 and every scale 2.
            let blocks = HostMatrix {
                rows: 3,
                cols: 64,
                storage: Storage::Blocks {
                    format,
                    packed: Bytes::new(vec![one; 3 * 64 * usize::from(format.bits()) / 8]),
                    scales: Bytes::new(vec![scale; 3 * 64 / format.block()]),
                },
            };
            let bytes = blocks.cpu_bytes();
            assert_eq!(bytes, 3 * 64 * bits / 8);
            assert_eq!(blocks.unblocked_bytes(), bytes);
            assert!(blocks.is_copied());
            let kept = blocks.on_cpu(&cpu.pool);
            assert_eq!(kept.bytes(), bytes);
            let sum: f32 = (0..64).map(|i| 2.0 * i as f32).sum();
            assert_eq!(product(&cpu, kept.view()), [sum; 3]);
        }
    }
}
