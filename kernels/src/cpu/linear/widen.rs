//! Codes of 2, 3, 5 and 6 bits, widened to the 4 or 8 bits that the products multiply.
//!
//! A row of MLX's affine quantisation is one stream of bits, lowest first: code `i` of `b` bits has the bits from `i · b` on.
//! Eight codes fill `b` bytes and rows are a multiple of 32 codes, so codes are widened eight at a time, whatever the rows
//! are. Codes, scales and biases stay what they were, so the products are those of the narrow codes, bit for bit.

use std::array;

use crate::cpu::Pool;
use crate::cpu::tasks::{rows_per_task, run_each};

/// The bits with which codes of `bits` bits are multiplied; none if they are not supported.
pub fn widened_bits(bits: u8) -> Option<u8> {
    match bits {
        2..=4 => Some(4),
        5 | 6 | 8 => Some(8),
        _ => None,
    }
}

/// Packs codes of `bits` bits again, with [`widened_bits`].
///
/// # Panics
/// If `bits` is not supported, or the codes are not a multiple of eight.
pub fn widen_codes(pool: &Pool, bits: u8, packed: &[u8]) -> Vec<u8> {
    match bits {
        2 => widen::<2, 4>(pool, packed),
        3 => widen::<3, 4>(pool, packed),
        5 => widen::<5, 8>(pool, packed),
        6 => widen::<6, 8>(pool, packed),
        4 | 8 => packed.to_vec(),
        _ => panic!("{bits} bits a weight"),
    }
}

/// `WIDE` bits a code instead of `BITS`, so as many bytes for eight codes.
fn widen<const BITS: usize, const WIDE: usize>(pool: &Pool, packed: &[u8]) -> Vec<u8> {
    let (narrow, rest) = packed.as_chunks::<BITS>();
    assert!(rest.is_empty(), "the codes are not a multiple of eight");
    let mut out = vec![0; narrow.len() * WIDE];
    let (wide, _) = out.as_chunks_mut::<WIDE>();
    let run = rows_per_task(pool, narrow.len(), 8);
    let mut parts: Vec<_> = narrow.chunks(run).zip(wide.chunks_mut(run)).collect();
    run_each(pool, &mut parts, |(narrow, wide)| {
        for (narrow, wide) in narrow.iter().zip(wide.iter_mut()) {
            *wide = eight(narrow);
        }
    });
    out
}

/// Eight codes.
#[inline(always)]
fn eight<const BITS: usize, const WIDE: usize>(narrow: &[u8; BITS]) -> [u8; WIDE] {
    let mut bytes = [0; 8];
    bytes[..BITS].copy_from_slice(narrow);
    let stream = u64::from_le_bytes(bytes);
    let code = |i: usize| (stream >> (i * BITS)) as u8 & ((1 << BITS) - 1);
    array::from_fn(|byte| match WIDE {
        4 => code(2 * byte) | code(2 * byte + 1) << 4,
        _ => code(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code at `index` of a stream, bit by bit.
    fn code(stream: &[u8], bits: usize, index: usize) -> u8 {
        let bit = |at: usize| stream[at / 8] >> (at % 8) & 1;
        (0..bits).fold(0, |code, i| code | bit(index * bits + i) << i)
    }

    #[test]
    fn codes_stay_what_they_were() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let wide = widened_bits(bits).unwrap();
            // Eight codes, and more than one task takes.
            for count in [0, 8, 40_000] {
                let len = count * usize::from(bits) / 8;
                let packed: Vec<u8> = (0..len).map(|i| (i * 167 + i / 3) as u8).collect();
                for threads in [1, 3] {
                    let widened = widen_codes(&Pool::new(threads), bits, &packed);
                    assert_eq!(widened.len(), count * usize::from(wide) / 8);
                    for index in 0..count {
                        assert_eq!(
                            code(&widened, wide.into(), index),
                            code(&packed, bits.into(), index),
                            "code {index} of {bits} bits"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn bits_that_no_product_has_are_none() {
        assert_eq!([0, 1, 7, 9, 16].map(widened_bits), [None; 5]);
    }

    #[test]
    #[should_panic(expected = "multiple of eight")]
    fn part_of_eight_codes_panics() {
        widen_codes(&Pool::new(1), 3, &[0; 4]);
    }
}
