//! MLX's formats of small floating-point elements with one scale for a block of them, turned into what the products
//! multiply: affine codes, or plain numbers. Either holds every element exactly.
//!
//! | | block | element | scale `s` |
//! | --- | ---: | --- | --- |
//! | mxfp4 | 32 | E2M1 | E8M0: 2^(s - 127) |
//! | mxfp8 | 32 | E4M3 | E8M0 |
//! | nvfp4 | 16 | E2M1 | E4M3 |

use std::fmt;

use half::bf16;

use crate::cpu::Pool;
use crate::cpu::tasks::{rows_per_task, run_each};

/// A format of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockFormat {
    /// Elements of 4 bits in blocks of 32, scaled by powers of two.
    MxFp4,
    /// Elements of 8 bits in blocks of 32, scaled by powers of two.
    MxFp8,
    /// Elements of 4 bits in blocks of 16, scaled by numbers of 8 bits.
    NvFp4,
}

impl BlockFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MxFp4, Self::MxFp8, Self::NvFp4];

    /// Bits an element.
    pub fn bits(self) -> u8 {
        match self {
            Self::MxFp4 | Self::NvFp4 => 4,
            Self::MxFp8 => 8,
        }
    }

    /// Elements that share a scale.
    pub fn block(self) -> usize {
        match self {
            Self::MxFp4 | Self::MxFp8 => 32,
            Self::NvFp4 => 16,
        }
    }
}

/// As config.json names it.
impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MxFp4 => "mxfp4",
            Self::MxFp8 => "mxfp8",
            Self::NvFp4 => "nvfp4",
        })
    }
}

/// Magnitudes of E2M1, times two; bit 3 is the sign.
const E2M1_TWICE: [u8; 8] = [0, 1, 2, 3, 4, 6, 8, 12];

/// An element of four bits.
fn e2m1(code: u8) -> f32 {
    let magnitude = f32::from(E2M1_TWICE[usize::from(code & 7)]) / 2.0;
    if code & 8 == 0 { magnitude } else { -magnitude }
}

/// A number of eight bits. The codes that the standard has for NaN are ±480, as in MLX.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = match exponent {
        0 => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2.0_f32.powi(exponent - 7),
    };
    if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// A power of two. The lowest code is 2^-127 and the highest infinity, as in MLX.
fn e8m0(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(0x40_0000),
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// mxfp4 as affine weights of 8 bits in groups of 32: packed codes, and scales and biases in bf16.
///
/// # Panics
/// If these are not whole blocks with a scale each.
pub fn affine_of_mxfp4(pool: &Pool, packed: &[u8], scales: &[u8]) -> [Vec<u8>; 3] {
    // Twice the element and 12: from 0, which stands for -6, to 24.
    let code = |element: u8| match (E2M1_TWICE[usize::from(element & 7)], element & 8) {
        (twice, 0) => 12 + twice,
        (twice, _) => 12 - twice,
    };
    let mut codes = vec![0; 2 * packed.len()];
    blocks(pool, packed, scales, 16, &mut codes, |block, _, out| {
        for (&pair, out) in block.iter().zip(out.as_chunks_mut::<2>().0) {
            *out = [pair & 15, pair >> 4].map(code);
        }
    });
    let numbers = |factor: f32| {
        let number = |&scale: &u8| bf16::from_f32(factor * e8m0(scale)).to_le_bytes();
        scales.iter().flat_map(number).collect()
    };
    [codes, numbers(0.5), numbers(-6.0)]
}

/// Blocks as plain numbers in bf16.
///
/// # Panics
/// If these are not whole blocks with a scale each.
pub fn bf16_of_blocks(pool: &Pool, format: BlockFormat, packed: &[u8], scales: &[u8]) -> Vec<u8> {
    let bits = usize::from(format.bits());
    let block = format.block() * bits / 8;
    let mut numbers = vec![0; packed.len() * 16 / bits];
    blocks(
        pool,
        packed,
        scales,
        block,
        &mut numbers,
        |block, scale, out| {
            let put = |number: f32| bf16::from_f32(number).to_le_bytes();
            let out = out.as_chunks_mut::<2>().0;
            match format {
                BlockFormat::MxFp8 => {
                    for (&element, out) in block.iter().zip(out) {
                        *out = put(e4m3(element) * e8m0(scale));
                    }
                }
                BlockFormat::MxFp4 | BlockFormat::NvFp4 => {
                    let scale = match format {
                        BlockFormat::NvFp4 => e4m3(scale),
                        _ => e8m0(scale),
                    };
                    for (&pair, out) in block.iter().zip(out.as_chunks_mut::<2>().0) {
                        *out = [pair & 15, pair >> 4].map(|element| put(e2m1(element) * scale));
                    }
                }
            }
        },
    );
    numbers
}

/// Calls `task` with every block of `size` packed bytes, its scale and its part of `out`, on all threads.
fn blocks(
    pool: &Pool,
    packed: &[u8],
    scales: &[u8],
    size: usize,
    out: &mut [u8],
    task: impl Fn(&[u8], u8, &mut [u8]) + Sync,
) {
    assert_eq!(packed.len(), size * scales.len(), "blocks without a scale");
    if scales.is_empty() {
        return;
    }
    let width = out.len() / scales.len();
    let run = rows_per_task(pool, scales.len(), width);
    let mut parts: Vec<_> = (packed.chunks(run * size))
        .zip(scales.chunks(run))
        .zip(out.chunks_mut(run * width))
        .collect();
    run_each(pool, &mut parts, |((packed, scales), out)| {
        let blocks = packed.chunks(size).zip(scales.iter());
        for ((block, &scale), out) in blocks.zip(out.chunks_mut(width)) {
            task(block, scale, out);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(bytes: &[u8]) -> Vec<f32> {
        let numbers = bytes.as_chunks::<2>().0.iter();
        numbers.map(|&b| bf16::from_le_bytes(b).to_f32()).collect()
    }

    #[test]
    fn elements_and_scales_are_those_of_their_formats() {
        let e2m1s: Vec<f32> = (0..16).map(e2m1).collect();
        let positive: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        assert_eq!(e2m1s[..8], positive);
        assert_eq!(e2m1s[8..], positive.map(|x| -x));
        for (code, number) in [
            (0, 0.0),
            (1, 1.0 / 512.0),
            (7, 7.0 / 512.0),
            (8, 1.0 / 64.0),
            (0x38, 1.0),
            (0x3f, 1.875),
            (0x7e, 448.0),
            (0x7f, 480.0),
            (0xb8, -1.0),
        ] {
            assert_eq!(e4m3(code), number, "{code:#x}");
        }
        assert_eq!(
            [1, 126, 127, 130].map(e8m0),
            [2.0_f32.powi(-126), 0.5, 1.0, 8.0]
        );
        assert_eq!((e8m0(0), e8m0(255)), (2.0_f32.powi(-127), f32::INFINITY));
    }

    /// Blocks of every element at scales across the range, in more than one task.
    #[test]
    fn every_element_is_exact_in_either_form() {
        let pool = Pool::new(3);
        for format in BlockFormat::ALL {
            let (bits, block) = (usize::from(format.bits()), format.block());
            let count = 20_000 / block;
            let packed: Vec<u8> = (0..count * block * bits / 8)
                .map(|i| (i * 7 + i / 256) as u8)
                .collect();
            let scales: Vec<u8> = (0..count)
                .map(|i| match format {
                    // Not those with which the largest element is no number of bf16 any more.
                    BlockFormat::MxFp4 | BlockFormat::MxFp8 => (16 + i % 200) as u8,
                    BlockFormat::NvFp4 => (i % 0x7f) as u8,
                })
                .collect();
            let element = |i: usize| match bits {
                4 => e2m1(packed[i / 2] >> (4 * (i % 2)) & 15),
                _ => e4m3(packed[i]),
            };
            let expected = |i: usize| {
                let scale = scales[i / block];
                element(i)
                    * if format == BlockFormat::NvFp4 {
                        e4m3(scale)
                    } else {
                        e8m0(scale)
                    }
            };
            let plain = floats(&bf16_of_blocks(&pool, format, &packed, &scales));
            assert_eq!(plain.len(), count * block);
            for (i, &found) in plain.iter().enumerate() {
                assert_eq!(found, expected(i), "{format}, element {i}");
            }
            if format == BlockFormat::MxFp4 {
                let [codes, scales, biases] = affine_of_mxfp4(&pool, &packed, &scales);
                let (scales, biases) = (floats(&scales), floats(&biases));
                for (i, &code) in codes.iter().enumerate() {
                    let found = f32::from(code).mul_add(scales[i / 32], biases[i / 32]);
                    assert_eq!(found, expected(i), "element {i}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let pool = Pool::new(2);
        let parts = affine_of_mxfp4(&pool, &[], &[]);
        assert_eq!(parts.map(|part| part.len()), [0; 3]);
        assert!(bf16_of_blocks(&pool, BlockFormat::NvFp4, &[], &[]).is_empty());
    }
}
