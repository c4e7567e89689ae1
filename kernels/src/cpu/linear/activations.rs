//! Activations rounded to eight bits, in the order in which the products read them.
//!
//! Each group of activations, as long as the weights' groups, is divided by its largest magnitude / 127 and rounded
//! to nearest, ties to even. The rows are cut into tiles that stay in a core's cache; a tile holds, for every 128
//! columns, a *block* of 128 bytes a row. Within a block the activations that meet low nibbles come first: for
//! four-bit weights all 64 of even index, then all 64 of odd index; for eight-bit weights they keep their order.

use super::disjoint::Disjoint;
use super::lanes::{BLOCK, Lanes, ODD, Routine, dispatch};
use super::matrix::Bits;
use crate::cpu::Cpu;

/// What one group of activations was rounded with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct GroupScale {
    /// Activation = `step` · rounded value.
    pub step: f32,
    /// The group's sum, as rounded: what the weights' common bias is multiplied with.
    pub sum: f32,
}

/// All rows of one call's activations.
pub(super) struct Activations {
    rows: usize,
    tile_rows: usize,
    blocks: usize,
    groups: usize,
    values: Vec<i8>,
    scales: Vec<GroupScale>,
}

/// Some rows of activations.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub rows: usize,
    /// `[blocks, rows, BLOCK]`
    pub values: &'a [i8],
    /// `[groups, rows]`
    pub scales: &'a [GroupScale],
}

impl Activations {
    /// Rounds `x`, `[rows, cols]`, to be multiplied with weights of the given kind.
    pub fn new(
        cpu: &Cpu,
        x: &[f32],
        cols: usize,
        bits: Bits,
        group: usize,
        tile_rows: usize,
    ) -> Self {
        let rows = x.len() / cols;
        let (blocks, groups) = (cols.div_ceil(BLOCK), cols / group);
        let mut values = vec![0; rows * blocks * BLOCK];
        let mut scales = vec![GroupScale::default(); rows * groups];
        let per_block = BLOCK / group;
        let tiles = rows.div_ceil(tile_rows);
        {
            let (values, scales) = (Disjoint::new(&mut values), Disjoint::new(&mut scales));
            let round = |index: usize| {
                let (tile, block) = (index / blocks, index % blocks);
                let first = tile * tile_rows;
                let rows = tile_rows.min(rows - first);
                let at = (first * blocks + block * rows) * BLOCK;
                let from = first * groups + block * per_block * rows;
                let count = per_block.min(groups - block * per_block) * rows;
                let columns = block * BLOCK..cols.min((block + 1) * BLOCK);
                dispatch(
                    cpu.isa,
                    RoundBlock {
                        x: &x[first * cols..][..rows * cols],
                        cols,
                        columns,
                        bits,
                        group,
                        // SAFETY: tiles lie one after the other and blocks one after the other within a tile, so
                        // no two (tile, block) pairs share a value or a scale; each pair is rounded once.
                        values: unsafe { values.slice(at..at + rows * BLOCK) },
                        // SAFETY: as above.
                        scales: unsafe { scales.slice(from..from + count) },
                    },
                );
            };
            // Rounding a few rows takes less time than waking another thread.
            if x.len() < 1 << 16 {
                (0..tiles * blocks).for_each(round);
            } else {
                cpu.pool
                    .split(tiles * blocks, 1, &|range| range.for_each(round));
            }
        }
        Self {
            rows,
            tile_rows,
            blocks,
            groups,
            values,
            scales,
        }
    }

    /// The tile with the given index.
    pub fn tile(&self, index: usize) -> Tile<'_> {
        let first = index * self.tile_rows;
        let rows = self.tile_rows.min(self.rows - first);
        let block_row = self.blocks * BLOCK;
        Tile {
            rows,
            values: &self.values[first * block_row..][..rows * block_row],
            scales: &self.scales[first * self.groups..][..rows * self.groups],
        }
    }
}

/// Rounds one block of a tile.
struct RoundBlock<'a> {
    /// The tile's rows.
    x: &'a [f32],
    cols: usize,
    columns: std::ops::Range<usize>,
    bits: Bits,
    group: usize,
    /// `[rows, BLOCK]`
    values: &'a mut [i8],
    /// `[groups of the block, rows]`
    scales: &'a mut [GroupScale],
}

impl Routine for RoundBlock<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let rows = self.values.len() / BLOCK;
        let x = self.x.chunks_exact(self.cols);
        for (row, (x, out)) in x.zip(self.values.chunks_exact_mut(BLOCK)).enumerate() {
            let mut rounded = [0; BLOCK];
            let groups = x[self.columns.clone()].chunks_exact(self.group);
            for (g, x) in groups.enumerate() {
                let out = &mut rounded[g * self.group..][..self.group];
                self.scales[g * rows + row] = match self.group {
                    32 => round_group::<32>(x, out),
                    64 => round_group::<64>(x, out),
                    _ => round_group::<128>(x, out),
                };
            }
            match self.bits {
                Bits::Four => {
                    let (even, odd) = out.split_at_mut(ODD);
                    let places = even.iter_mut().zip(odd);
                    for (pair, (even, odd)) in rounded.chunks_exact(2).zip(places) {
                        (*even, *odd) = (pair[0], pair[1]);
                    }
                }
                Bits::Eight => out.copy_from_slice(&rounded),
            }
        }
    }
}

/// Rounds one group.
///
/// A group too small to be divided by (below 1e-36) counts as zero. A group with an infinity or a NaN has a NaN
/// for its step, so that everything that is computed from it becomes NaN too.
#[inline(always)]
fn round_group<const GROUP: usize>(x: &[f32], out: &mut [i8]) -> GroupScale {
    // Added to a number of magnitude below 2^22, it leaves the nearest integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // As integers, magnitudes order like the numbers, then infinity, then NaN.
    let largest = x[..GROUP]
        .iter()
        .fold(0, |max, v| max.max(v.to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(largest);
    let per_step = 127.0 / largest;
    let (step, per_step) = if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if per_step.is_finite() {
        (largest / 127.0, per_step)
    } else {
        (0.0, 0.0)
    };
    let mut sum = 0;
    for (out, x) in out[..GROUP].iter_mut().zip(&x[..GROUP]) {
        let rounded = (x * per_step + ROUND).to_bits() as i8;
        *out = rounded;
        sum += i32::from(rounded);
    }
    GroupScale {
        step,
        sum: step * sum as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_rounded_to_its_largest_magnitude() {
        let x: Vec<f32> = (0..32).map(|i| (i as f32 - 20.0) * 0.25).collect();
        let mut out = [0; 32];
        let scale = round_group::<32>(&x, &mut out);
        assert_eq!(scale.step, 5.0 / 127.0);
        assert_eq!((out[0], out[20], out[31]), (-127, 0, 70));
        for (x, &q) in x.iter().zip(&out) {
            assert!((x - scale.step * f32::from(q)).abs() <= scale.step * 0.5001);
        }
        let sum: i32 = out.iter().map(|&q| i32::from(q)).sum();
        assert_eq!(scale.sum, scale.step * sum as f32);
    }

    #[test]
    fn groups_without_a_usable_magnitude() {
        let mut out = [1; 32];
        for tiny in [0.0, -0.0, 1e-40, 3e-37] {
            let scale = round_group::<32>(&[tiny; 32], &mut out);
            assert_eq!((scale, out), (GroupScale::default(), [0; 32]));
        }
        for broken in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut x = [1.0; 32];
            x[7] = broken;
            let scale = round_group::<32>(&x, &mut out);
            assert!(scale.step.is_nan() && scale.sum.is_nan());
        }
        let scale = round_group::<32>(&[f32::MAX; 32], &mut out);
        assert_eq!((scale.step, out), (f32::MAX / 127.0, [127; 32]));
    }

    #[test]
    fn every_value_is_where_the_products_look_for_it() {
        // 192 columns are a block and a half; 5 rows are two tiles and a half.
        let (rows, cols, group, tile_rows) = (5, 192, 32, 2);
        let x: Vec<f32> = (0..rows * cols)
            .map(|i| ((i * 37) % 255) as f32 - 127.0)
            .collect();
        for bits in [Bits::Four, Bits::Eight] {
            let all = Activations::new(&Cpu::new(2), &x, cols, bits, group, tile_rows);
            for (row, x) in x.chunks(cols).enumerate() {
                let tile = all.tile(row / tile_rows);
                let row = row % tile_rows;
                for (g, x) in x.chunks(group).enumerate() {
                    let mut expected = [0; 32];
                    let scale = round_group::<32>(x, &mut expected);
                    assert_eq!(tile.scales[g * tile.rows + row], scale);
                    for (k, expected) in (g * group..).zip(expected) {
                        let place = match bits {
                            Bits::Four => k % BLOCK / 2 + k % 2 * ODD,
                            Bits::Eight => k % BLOCK,
                        };
                        let at = (k / BLOCK * tile.rows + row) * BLOCK + place;
                        assert_eq!(tile.values[at], expected);
                    }
                }
            }
        }
    }
}
