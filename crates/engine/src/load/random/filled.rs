//! Memory full of noise, made on all cores: each piece from its own seed, so that the number of threads changes nothing.

use std::sync::{Mutex, PoisonError};
use std::thread;

use half::bf16;
use sanctum_kernels::cpu::Float;
use sanctum_manifest::Bytes;

use crate::load::model_config::AffineQuantization;
use crate::load::weights::{HostMatrix, Storage};

/// Layers, as published conversions have them.
pub(super) const AFFINE: AffineQuantization = AffineQuantization { bits: 4, group: 64 };

/// Routers, as published conversions have them.
pub(super) const ROUTER: AffineQuantization = AffineQuantization { bits: 8, group: 64 };

/// Bytes that a thread fills at a time.
const PIECE: usize = 1 << 20;

/// How much the experts' shares differ: the standard deviation of the logarithms of a router's row sizes.
const SKEW: f32 = 0.2;

/// Bytes of a matrix with bf16 scales and biases.
pub(super) fn matrix_bytes(affine: AffineQuantization, rows: usize, cols: usize) -> u64 {
    let weights = rows * cols * usize::from(affine.bits) / 8;
    (weights + 2 * 2 * rows * cols / affine.group) as u64
}

/// Makes matrices and vectors one after the other.
pub(super) struct Maker<'a> {
    threads: usize,
    /// Matrices and vectors so far: seeds follow from it.
    count: u64,
    made: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<'a> Maker<'a> {
    /// Reports bytes of matrices out of `total`.
    pub(super) fn new(threads: usize, total: u64, progress: &'a mut dyn FnMut(u64, u64)) -> Self {
        Self {
            threads,
            count: 0,
            made: 0,
            total,
            progress,
        }
    }

    /// A matrix of 4 bits that keeps activations at their size.
    pub(super) fn matrix(&mut self, rows: usize, cols: usize) -> HostMatrix {
        self.scaled(AFFINE, rows, cols, &|_| 1.0)
    }

    /// A matrix of 8 bits with rows of different sizes: larger ones give larger products, of either sign, and are chosen more
    /// often.
    pub(super) fn router(&mut self, rows: usize, cols: usize) -> HostMatrix {
        let mut noise = WeightNoise::new(self.count, u64::MAX);
        // The sum of twelve uniform numbers is nearly normal.
        let size = |_| (SKEW * (0..12).map(|_| noise.unit()).sum::<f32>()).exp();
        let sizes: Vec<f32> = (0..rows).map(size).collect();
        self.scaled(ROUTER, rows, cols, &|row| sizes[row])
    }

    /// A matrix whose rows have given sizes.
    fn scaled(
        &mut self,
        affine: AffineQuantization,
        rows: usize,
        cols: usize,
        size: &(dyn Fn(usize) -> f32 + Sync),
    ) -> HostMatrix {
        let seed = self.count;
        self.count += 1;
        let mut packed = vec![0; rows * cols * usize::from(affine.bits) / 8];
        self.fill(&mut packed, |index, piece| {
            let mut noise = WeightNoise::new(seed, index as u64);
            for word in piece.chunks_mut(8) {
                word.copy_from_slice(&noise.next().to_le_bytes()[..word.len()]);
            }
        });
        // Uniform codes have this mean and this variance: the scale gives rows of products the size of the activations.
        let codes = f32::from(1_u16 << affine.bits);
        let (mean, variance) = ((codes - 1.0) / 2.0, (codes * codes - 1.0) / 12.0);
        let scale = 1.0 / (variance * cols as f32).sqrt();
        let groups = cols / affine.group;
        let floats = |factor: f32| {
            let mut bytes = vec![0; 2 * rows * groups];
            self.fill(&mut bytes, |index, piece| {
                let first = index * PIECE / 2;
                for (at, float) in piece.chunks_exact_mut(2).enumerate() {
                    let value = factor * size((first + at) / groups);
                    float.copy_from_slice(&bf16::from_f32(value).to_le_bytes());
                }
            });
            Bytes::new(bytes)
        };
        let (scales, biases) = (floats(scale), floats(-mean * scale));
        self.made += matrix_bytes(affine, rows, cols);
        (self.progress)(self.made, self.total);
        HostMatrix {
            rows,
            cols,
            storage: Storage::Affine {
                affine,
                packed: Bytes::new(packed),
                float: Float::Bf16,
                scales,
                biases,
            },
        }
    }

    /// Values between -0.5 and 0.5.
    pub(super) fn vector(&mut self, len: usize) -> Vec<f32> {
        let mut noise = WeightNoise::new(self.count, 0);
        self.count += 1;
        (0..len).map(|_| noise.unit()).collect()
    }

    /// Calls `task` with every piece of `bytes` and its index, on all threads. Fresh memory is zero, and the system makes each
    /// page of it when it is written first: on that thread.
    fn fill(&self, bytes: &mut [u8], task: impl Fn(usize, &mut [u8]) + Sync) {
        let threads = self.threads.min(bytes.len().div_ceil(PIECE));
        let pieces = Mutex::new(bytes.chunks_mut(PIECE).enumerate());
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((index, piece)) = next() {
                task(index, piece);
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
    }
}

/// xorshift64: fast and good enough for noise.
struct WeightNoise(u64);

impl WeightNoise {
    /// The numbers of a piece of a matrix.
    fn new(matrix: u64, piece: u64) -> Self {
        // SplitMix64 (Steele et al., 2014) makes seeds that are near each other different.
        let mix = |x: u64| {
            let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        // xorshift stays at zero.
        Self(mix(mix(matrix) ^ piece).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Between -0.5 and 0.5.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}
