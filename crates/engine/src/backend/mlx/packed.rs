//! Values as codes of a few bits and back, from MLX's own operations.
//!
//! This is what runs where there are no custom kernels. The layout is that of
//! [`quantize_v`](sanctum_kernels::gpu::quantize_v), so that the pools are the same arrays on every device.

use mlx_rs::ops::{clip, dequantize, maximum};
use mlx_rs::{Array, Dtype};
use sanctum_kernels::KvMode;

use super::ops::{cast, dim, f32, must, reshape, sum_last};

/// The largest number that f16 holds.
const LARGEST: f32 = 65504.0;

/// The least step that f16 holds: it stands in where a group's numbers are all equal, and no code counts.
const LEAST_STEP: f32 = 5.960_464_5e-8;

/// Values `[N, kv_heads, head_dim]` as codes `[N, kv_heads, head_dim * bits / 32]`, 32 bits of them a word, and scales
/// and zeros `[N, kv_heads, head_dim / 64]` in f16.
pub(super) fn packed(values: &Array, bits: usize) -> Vec<Array> {
    let &[n, heads, width] = values.shape() else {
        panic!("values have rows, heads and a width");
    };
    let (group, word) = (dim(KvMode::GROUP), dim(32 / bits));
    let top = ((1_u32 << bits) - 1) as f32;
    let half = |x: &Array| cast(&must(clip(x, (-LARGEST, LARGEST))), Dtype::Float16);
    let groups = reshape(&f32(values), &[n, heads, width / group, group]);
    let zeros = half(&must(groups.min_axis(-1, true)));
    let zero = f32(&zeros);
    let range = must(groups.max_axis(-1, true)) - &zero;
    let scales = half(&(range / Array::from_f32(top)));
    let step = must(maximum(f32(&scales), Array::from_f32(LEAST_STEP)));
    let nearest = (groups - zero) * must(step.reciprocal()) + Array::from_f32(0.5);
    // The conversion cuts the fraction off.
    let codes = cast(&must(clip(&nearest, (0.0, top))), Dtype::Uint32);
    let places: Vec<u32> = (0..word as u32).map(|i| 1 << (i * bits as u32)).collect();
    let placed =
        reshape(&codes, &[n, heads, width / word, word]) * Array::from_slice(&places, &[word]);
    let per_group = [n, heads, width / group];
    vec![
        sum_last(&placed, false),
        reshape(&scales, &per_group),
        reshape(&zeros, &per_group),
    ]
}

/// The values that codes, scales and zeros stand for, `[N, kv_heads, head_dim]` of `dtype`.
pub(super) fn unpacked([codes, scales, zeros]: [&Array; 3], bits: usize, dtype: Dtype) -> Array {
    let (scales, zeros) = (f32(scales), f32(zeros));
    let group = dim(KvMode::GROUP);
    cast(
        &must(dequantize(codes, scales, &zeros, group, dim(bits))),
        dtype,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlx_rs::transforms::eval;
    use sanctum_kernels::naive;

    #[test]
    fn codes_stand_for_what_the_formula_says() {
        let numbers: Vec<f32> = (0..3 * 2 * 128)
            .map(|i| ((i * 7919 % 1013) as f32 / 500.0 - 1.0) * (1 + i / 64) as f32)
            .chain([0.25; 2 * 128])
            .collect();
        let values = Array::from_slice(&numbers, &[4, 2, 128]);
        for mode in [KvMode::V8, KvMode::V4] {
            let bits = mode.bits().unwrap();
            let parts = packed(&values, bits);
            assert_eq!(parts[0].shape(), [4, 2, 128 * dim(bits) / 32]);
            assert_eq!(parts[1].dtype(), Dtype::Float16);
            let back = unpacked([&parts[0], &parts[1], &parts[2]], bits, Dtype::Float32);
            must(eval([&back]));
            let expected = naive::packed(&numbers, mode);
            for (i, (got, expected)) in back.as_slice::<f32>().iter().zip(expected).enumerate() {
                // One rounds where the other does not; a number between two codes may go either way.
                let near = (got - expected).abs() <= 1e-5 * expected.abs().max(1.0);
                assert!(near, "{mode}, number {i}: {got}, not {expected}");
            }
        }
    }
}
