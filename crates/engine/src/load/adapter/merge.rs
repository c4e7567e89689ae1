//! `W + scale · B · A`, in f32, and back to the form in which `W` was stored.
//!
//! Quantised weights are dequantised row by row, added to and quantised again with the groups and bits they had, by the
//! rule of `mlx.core.quantize`: the end of a group's range that is larger in magnitude is met exactly, and the scale is
//! nudged so that zero falls on a level. Plain weights are rounded once, to the type they had.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use half::{bf16, f16};
use sanctum_kernels::cpu::Float;

use super::pairs::Decoded;
use crate::load::model_config::AffineQuantization;
use crate::load::weights::{HostMatrix, Storage};
use sanctum_manifest::Bytes;

/// The least scale of a group, as MLX has it.
const SMALLEST: f32 = 1e-7;

/// The matrix with the pair added, which must fit it; none if a sum is not finite, or the type it is stored in cannot hold it.
pub(super) fn merge(matrix: &HostMatrix, pair: &Decoded) -> Option<HostMatrix> {
    let (rows, cols) = (matrix.rows, matrix.cols);
    let finite = AtomicBool::new(true);
    let storage = match &matrix.storage {
        Storage::Blocks { .. } => unreachable!("pairs for blocks are refused"),
        Storage::Dense { float, data } => {
            let row_bytes = cols * size(*float);
            let mut merged = vec![0; data.len()];
            let out: Vec<_> = merged.chunks_mut(row_bytes).collect();
            for_rows(out, |row, out| {
                let mut values = decode(&data[row * row_bytes..][..row_bytes], *float);
                pair.add_row(row, &mut values);
                if !encode(&values, *float, out) {
                    finite.store(false, Relaxed);
                }
            });
            Storage::Dense {
                float: *float,
                data: Bytes::new(merged),
            }
        }
        Storage::Affine {
            affine,
            packed,
            float,
            scales,
            biases,
        } => {
            let row_words = cols * usize::from(affine.bits) / 8;
            let row_groups = cols / affine.group * size(*float);
            let mut merged = [
                vec![0; packed.len()],
                vec![0; scales.len()],
                vec![0; biases.len()],
            ];
            let [words, new_scales, new_biases] = &mut merged;
            let out: Vec<_> = words
                .chunks_mut(row_words)
                .zip(new_scales.chunks_mut(row_groups))
                .zip(new_biases.chunks_mut(row_groups))
                .collect();
            for_rows(out, |row, ((words, new_scales), new_biases)| {
                let part = |all: &Bytes| decode(&all[row * row_groups..][..row_groups], *float);
                let (old_scales, old_biases) = (part(scales), part(biases));
                let old = &packed[row * row_words..][..row_words];
                let mut values = dequantised(*affine, old, &old_scales, &old_biases);
                pair.add_row(row, &mut values);
                let (scales, biases) = quantise(*affine, &values, words);
                let kept =
                    encode(&scales, *float, new_scales) && encode(&biases, *float, new_biases);
                if !kept || values.iter().any(|value| !value.is_finite()) {
                    finite.store(false, Relaxed);
                }
            });
            let [words, new_scales, new_biases] = merged.map(Bytes::new);
            Storage::Affine {
                affine: *affine,
                packed: words,
                float: *float,
                scales: new_scales,
                biases: new_biases,
            }
        }
    };
    finite.into_inner().then_some(HostMatrix {
        rows,
        cols,
        storage,
    })
}

impl Decoded {
    /// Adds a row of `scale · b · a`.
    fn add_row(&self, row: usize, values: &mut [f32]) {
        let mut delta = vec![0f32; values.len()];
        let factors = &self.b[row * self.rank..][..self.rank];
        for (factor, line) in factors.iter().zip(self.a.chunks_exact(self.inputs)) {
            for (sum, a) in delta.iter_mut().zip(line) {
                *sum += factor * a;
            }
        }
        for (value, delta) in values.iter_mut().zip(delta) {
            *value += self.scale * delta;
        }
    }
}

/// Runs `work` for every row, on all cores.
fn for_rows<T: Send>(rows: Vec<T>, work: impl Fn(usize, T) + Sync) {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = rows.len().div_ceil(cores).max(1);
    let mut rows = rows.into_iter().enumerate();
    thread::scope(|scope| {
        loop {
            let piece: Vec<_> = rows.by_ref().take(share).collect();
            if piece.is_empty() {
                break;
            }
            let work = &work;
            scope.spawn(move || piece.into_iter().for_each(|(row, out)| work(row, out)));
        }
    });
}

/// The largest level.
fn most(affine: AffineQuantization) -> u8 {
    u8::MAX >> (8 - affine.bits)
}

/// A row of weights; `packed` is a stream of bits, the lowest first, in which eight levels fill as many bytes as each has bits.
fn dequantised(
    affine: AffineQuantization,
    packed: &[u8],
    scales: &[f32],
    biases: &[f32],
) -> Vec<f32> {
    let (bits, most) = (usize::from(affine.bits), most(affine));
    let mut levels = Vec::with_capacity(packed.len() * 8 / bits);
    for eight in packed.chunks_exact(bits) {
        let mut bytes = [0; 8];
        bytes[..bits].copy_from_slice(eight);
        let stream = u64::from_le_bytes(bytes);
        levels.extend((0..8).map(|i| f32::from((stream >> (i * bits)) as u8 & most)));
    }
    let groups = levels
        .chunks_exact(affine.group)
        .zip(scales.iter().zip(biases));
    groups
        .flat_map(|(levels, (scale, bias))| levels.iter().map(move |level| level * scale + bias))
        .collect()
}

/// Writes the levels of a row and returns its scales and biases.
fn quantise(affine: AffineQuantization, values: &[f32], packed: &mut [u8]) -> (Vec<f32>, Vec<f32>) {
    let most = f32::from(most(affine));
    let mut levels = Vec::with_capacity(values.len());
    let (mut scales, mut biases) = (Vec::new(), Vec::new());
    for group in values.chunks_exact(affine.group) {
        let low = group.iter().copied().fold(f32::INFINITY, f32::min);
        let high = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let low_is_larger = low.abs() > high.abs();
        let step = ((high - low) / most).max(SMALLEST);
        let (mut scale, edge) = match low_is_larger {
            true => (step, low),
            false => (-step, high),
        };
        let steps = (edge / scale).round_ties_even();
        let mut bias = 0.0;
        if steps != 0.0 {
            (scale, bias) = (edge / steps, edge);
        }
        let level = |value: &f32| ((value - bias) / scale).round_ties_even().clamp(0.0, most) as u8;
        levels.extend(group.iter().map(level));
        scales.push(scale);
        biases.push(bias);
    }
    let bits = usize::from(affine.bits);
    for (out, eight) in packed.chunks_exact_mut(bits).zip(levels.as_chunks::<8>().0) {
        let codes = eight.iter().rev();
        let stream = codes.fold(0_u64, |stream, code| stream << bits | u64::from(*code));
        out.copy_from_slice(&stream.to_le_bytes()[..bits]);
    }
    (scales, biases)
}

fn size(float: Float) -> usize {
    match float {
        Float::F32 => 4,
        Float::F16 | Float::Bf16 => 2,
    }
}

fn decode(bytes: &[u8], float: Float) -> Vec<f32> {
    match float {
        Float::F32 => numbers(bytes, f32::from_le_bytes),
        Float::F16 => numbers(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Float::Bf16 => numbers(bytes, |b| bf16::from_le_bytes(b).to_f32()),
    }
}

fn numbers<const SIZE: usize>(bytes: &[u8], number: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&b| number(b)).collect()
}

/// Writes numbers in a type; whether it holds them all, as finite ones.
fn encode(values: &[f32], float: Float, out: &mut [u8]) -> bool {
    match float {
        Float::F32 => put(values, out, f32::to_le_bytes),
        Float::F16 => put(values, out, |x| f16::from_f32(x).to_le_bytes()),
        Float::Bf16 => put(values, out, |x| bf16::from_f32(x).to_le_bytes()),
    }
    let largest = match float {
        Float::F32 => f32::MAX,
        Float::F16 => f16::MAX.to_f32(),
        Float::Bf16 => bf16::MAX.to_f32(),
    };
    values.iter().all(|value| value.abs() <= largest)
}

fn put<const SIZE: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; SIZE]) {
    for (out, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
        *out = bytes(*value);
    }
}

/// The levels, scales and biases of a plain matrix.
#[cfg(test)]
pub(super) fn quantised(
    affine: AffineQuantization,
    float: Float,
    shape: &[usize],
    data: &[u8],
) -> [Vec<u8>; 3] {
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for row in data.chunks_exact(shape[1] * size(float)) {
        let mut packed = vec![0; shape[1] * usize::from(affine.bits) / 8];
        let (scales, biases) = quantise(affine, &decode(row, float), &mut packed);
        let stored = |values: Vec<f32>| {
            let mut bytes = vec![0; values.len() * size(float)];
            encode(&values, float, &mut bytes);
            bytes
        };
        for (all, row) in found
            .iter_mut()
            .zip([packed, stored(scales), stored(biases)])
        {
            all.extend(row);
        }
    }
    found
}
