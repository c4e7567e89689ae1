//! The order in which a GPU's tensor cores take 4-bit weights: what a warp needs of sixteen rows lies together, so that
//! it reads 512 neighbouring bytes where the checkpoint's order spreads them over sixteen places.
//!
//! A tile is 16 rows by a group of 64 columns. Lane `l` of 32 has four words of it: of row `l / 4` the words `2 (l % 4)`
//! and the one after, then the same of row `l / 4 + 8`. A word has eight columns: those with even numbers in its lower
//! half, the others in its upper half, so that neighbours are 16 bits apart, as the tensor cores want them. Tiles of the
//! same rows follow each other. Scales and biases stand likewise: those of row `r`, then those of row `r + 8`.

use std::thread;

/// Rows of a tile.
pub const TILE_ROWS: usize = 16;

/// Columns of a tile: one group.
pub const TILE_COLS: usize = 64;

const TILE_WORDS: usize = TILE_ROWS * TILE_COLS / 8;

/// Words `[rows, cols / 8]`, little endian, as tiles `[rows / 16, cols / 64, 32, 4]`. Rows that are missing of the last
/// tile are zeros. Uses `threads`.
///
/// # Panics
/// If `cols` is not a multiple of 64, or the words are not as many as that.
pub fn words(packed: &[u8], rows: usize, cols: usize, threads: usize) -> Vec<u32> {
    assert_eq!(packed.len(), rows * cols / 2, "4 bits a weight");
    assert!(cols.is_multiple_of(TILE_COLS), "whole groups");
    let groups = cols / TILE_COLS;
    let word = |row: usize, at: usize| match row < rows {
        true => {
            let start = (row * groups * 8 + at) * 4;
            let bytes = packed[start..start + 4].try_into().unwrap_or_default();
            parted(u32::from_le_bytes(bytes))
        }
        false => 0,
    };
    let mut tiles = vec![0; rows.div_ceil(TILE_ROWS) * groups * TILE_WORDS];
    rearranged(&mut tiles, groups * TILE_WORDS, threads, |tile, out| {
        for (group, out) in out.chunks_exact_mut(TILE_WORDS).enumerate() {
            for (lane, out) in out.chunks_exact_mut(4).enumerate() {
                let (row, at) = (tile * TILE_ROWS + lane / 4, group * 8 + lane % 4 * 2);
                out[0] = word(row, at);
                out[1] = word(row, at + 1);
                out[2] = word(row + 8, at);
                out[3] = word(row + 8, at + 1);
            }
        }
    });
    tiles
}

/// Nibbles 0, 2, 4, 6, then 1, 3, 5, 7.
fn parted(word: u32) -> u32 {
    let half = |word: u32| {
        let pairs = (word & 0x000f_000f) | (word >> 4 & 0x00f0_00f0);
        (pairs & 0xff) | (pairs >> 8 & 0xff00)
    };
    half(word) | half(word >> 4) << 16
}

/// Scales and biases, `[rows, cols / 64]` each, as pairs `[rows / 16, cols / 64, 8, 2, 2]`. Uses `threads`.
///
/// # Panics
/// If there are not as many of each.
pub fn steps<T: Copy + Default + Send + Sync>(
    [scales, biases]: [&[T]; 2],
    rows: usize,
    groups: usize,
    threads: usize,
) -> Vec<T> {
    assert_eq!(scales.len(), rows * groups);
    assert_eq!(biases.len(), rows * groups);
    let tile_len = groups * TILE_ROWS * 2;
    let mut steps = vec![T::default(); rows.div_ceil(TILE_ROWS) * tile_len];
    rearranged(&mut steps, tile_len, threads, |tile, out| {
        for (at, out) in out.chunks_exact_mut(2).enumerate() {
            let (group, line) = (at / TILE_ROWS, at % TILE_ROWS / 2 + at % 2 * 8);
            let row = tile * TILE_ROWS + line;
            if row < rows {
                out[0] = scales[row * groups + group];
                out[1] = biases[row * groups + group];
            }
        }
    });
    steps
}

/// Calls `fill` with every piece of `len` numbers and its place.
fn rearranged<T: Send>(
    all: &mut [T],
    len: usize,
    threads: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    let pieces = all.len() / len.max(1);
    let share = pieces.div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        for (first, part) in all.chunks_mut(share * len.max(1)).enumerate() {
            let fill = &fill;
            scope.spawn(move || {
                for (at, piece) in part.chunks_exact_mut(len).enumerate() {
                    fill(first * share + at, piece);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a lane of the tensor cores expects a weight, from `mma.m16n8k16`'s picture in the PTX manual, and what the
    /// kernel makes of it: nibbles `j` and `j + 4` of a word are columns `8 word + 2 j` and the next.
    #[test]
    fn every_weight_is_where_its_lane_looks_for_it() {
        let (rows, cols) = (37, 192);
        let code = |row: usize, col: usize| ((row * 31 + col * 7) % 16) as u8;
        let mut packed = vec![0u8; rows * cols / 2];
        for row in 0..rows {
            for col in 0..cols {
                packed[(row * cols + col) / 2] |= code(row, col) << (col % 2 * 4);
            }
        }
        for threads in [1, 3, 8] {
            let tiles = words(&packed, rows, cols, threads);
            assert_eq!(tiles.len(), 3 * 3 * TILE_WORDS);
            for (index, word) in tiles.iter().enumerate() {
                let (tile, within) = (index / TILE_WORDS, index % TILE_WORDS);
                let (lane, at) = (within / 4, within % 4);
                let row = tile / 3 * 16 + lane / 4 + at / 2 * 8;
                for nibble in 0..8 {
                    let col =
                        tile % 3 * 64 + lane % 4 * 16 + at % 2 * 8 + nibble % 4 * 2 + nibble / 4;
                    let expected = if row < rows { code(row, col) } else { 0 };
                    assert_eq!((word >> (4 * nibble)) as u8 & 15, expected);
                }
            }
        }
    }

    #[test]
    fn scale_and_bias_of_a_row_stand_together() {
        let (rows, groups) = (20, 3);
        let scales: Vec<f32> = (0..rows * groups).map(|i| i as f32).collect();
        let biases: Vec<f32> = scales.iter().map(|s| -s).collect();
        let steps = steps([&scales, &biases], rows, groups, 2);
        assert_eq!(steps.len(), 2 * groups * TILE_ROWS * 2);
        for row in 0..32 {
            for group in 0..groups {
                let at = ((row / 16 * groups + group) * 16 + row % 8 * 2 + row % 16 / 8) * 2;
                let expected = if row < rows {
                    (row * groups + group) as f32
                } else {
                    0.0
                };
                assert_eq!([steps[at], steps[at + 1]], [expected, -expected]);
            }
        }
    }
}
