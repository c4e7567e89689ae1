//! Activations rounded to eight bits, in the order in which the products read them.
//!
//! Each group of activations, as long as the weights' groups, is divided by its largest magnitude / 127 and rounded
//! to nearest, ties to even. The rows are cut into tiles that stay in a core's cache; a tile holds, for every 128
//! columns, a *block* of 128 bytes a row. Within a block the activations that meet low nibbles come first: for
//! four-bit weights all 64 of even index, then all 64 of odd index; for eight-bit weights they keep their order.

use std::cell::RefCell;
use std::mem;
use std::ops::Range;

use super::activation_rows::ActivationRows;
use super::disjoint::Disjoint;
use super::dispatch::dispatch;
use super::lanes::{BLOCK, Lanes, ODD, PARTS, Routine};
use super::matrix::Bits;
use crate::cpu::Cpu;

/// Tiles of up to this many rows are multiplied by [`super::rows`], larger ones by [`super::panels`].
pub(super) const FEW: usize = 4;

/// All rows of one call's activations.
pub(super) struct Activations {
    /// The rows of each tile, one after the other.
    tiles: Vec<Range<usize>>,
    /// Including padding to a whole span of weights, so that a few rows can be read without looking where they end.
    blocks: usize,
    /// Likewise.
    groups: usize,
    buffers: Buffers,
}

/// What rounded activations are kept in.
#[derive(Default)]
struct Buffers {
    values: Vec<i8>,
    steps: Vec<f32>,
    totals: Vec<f32>,
}

thread_local! {
    /// Buffers of earlier calls from this thread. A megabyte that comes fresh from the system for each call costs more
    /// than its rounding.
    static SPARE: RefCell<Vec<Buffers>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Activations {
    fn drop(&mut self) {
        let buffers = mem::take(&mut self.buffers);
        // Not available while the thread ends; then the buffers just go.
        let _ = SPARE.try_with(|spare| spare.borrow_mut().push(buffers));
    }
}

/// Some rows of activations.
#[derive(Clone, Copy)]
pub(super) struct ActivationTile<'a> {
    pub rows: usize,
    /// `[blocks, rows, BLOCK]`
    pub values: &'a [i8],
    /// What a group's rounded values are multiples of: `[rows, groups]` in a tile of up to [`FEW`] rows,
    /// `[groups, rows]` otherwise.
    pub steps: &'a [f32],
    /// A group's sum, as rounded: what its weights' common bias is multiplied with. Laid out as `steps`.
    pub totals: &'a [f32],
    /// Groups, including padding.
    pub groups: usize,
}

impl Activations {
    /// Rounds `x`, whose rows `tiles` are, to be multiplied with weights of the given kind.
    pub(super) fn new(
        cpu: &Cpu,
        x: ActivationRows<'_>,
        tiles: &[Range<usize>],
        bits: Bits,
        group: usize,
    ) -> Self {
        let (rows, cols) = (x.len(), x.cols());
        let groups = (cols / group).next_multiple_of(PARTS);
        let blocks = groups * group / BLOCK;
        let mut buffers = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        // Padding meets weights that are zero: values may be what an earlier call left, but a NaN must not stay.
        buffers.values.resize(rows * blocks * BLOCK, 0);
        for scales in [&mut buffers.steps, &mut buffers.totals] {
            scales.clear();
            scales.resize(rows * groups, 0.0);
        }
        let used_blocks = cols.div_ceil(BLOCK);
        {
            let (values, steps, totals) = (
                Disjoint::new(&mut buffers.values),
                Disjoint::new(&mut buffers.steps),
                Disjoint::new(&mut buffers.totals),
            );
            let round = |index: usize| {
                let (tile, block) = (&tiles[index / used_blocks], index % used_blocks);
                let at = (tile.start * blocks + block * tile.len()) * BLOCK;
                let strides = if tile.len() <= FEW {
                    [groups, 1]
                } else {
                    [1, tile.len()]
                };
                let round = RoundBlock {
                    x: x.slice(tile.clone()),
                    columns: block * BLOCK..cols.min((block + 1) * BLOCK),
                    bits,
                    group,
                    // SAFETY: tiles lie one after the other and blocks one after the other within a tile, so no
                    // two (tile, block) pairs share a value; each pair is rounded once.
                    values: unsafe { values.slice(at..at + tile.len() * BLOCK) },
                    steps: &steps,
                    totals: &totals,
                    first_group: tile.start * groups + block * (BLOCK / group) * strides[1],
                    strides,
                };
                dispatch(cpu.isa, round);
            };
            // Rounding a few rows takes less time than waking another thread.
            let all = tiles.len() * used_blocks;
            if rows * cols < 1 << 16 {
                (0..all).for_each(round);
            } else {
                cpu.pool.split(all, 1, &|range| range.for_each(round));
            }
        }
        Self {
            tiles: tiles.to_vec(),
            blocks,
            groups,
            buffers,
        }
    }

    /// The tile with the given index.
    pub(super) fn tile(&self, index: usize) -> ActivationTile<'_> {
        let Range { start, end } = self.tiles[index];
        let block_row = self.blocks * BLOCK;
        ActivationTile {
            rows: end - start,
            values: &self.buffers.values[start * block_row..end * block_row],
            steps: &self.buffers.steps[start * self.groups..end * self.groups],
            totals: &self.buffers.totals[start * self.groups..end * self.groups],
            groups: self.groups,
        }
    }
}

/// Rounds one block of a tile.
struct RoundBlock<'a> {
    /// The tile's rows.
    x: ActivationRows<'a>,
    columns: Range<usize>,
    bits: Bits,
    group: usize,
    /// `[rows, BLOCK]`
    values: &'a mut [i8],
    steps: &'a Disjoint<'a, f32>,
    totals: &'a Disjoint<'a, f32>,
    /// Where the step of row 0's first group goes.
    first_group: usize,
    /// From one row's steps to the next row's, from one group's step to the next one's.
    strides: [usize; 2],
}

impl Routine for RoundBlock<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for (row, out) in self.values.chunks_exact_mut(BLOCK).enumerate() {
            let x = self.x.row(row);
            let mut rounded = [0; BLOCK];
            let groups = x[self.columns.clone()].chunks_exact(self.group);
            for (g, x) in groups.enumerate() {
                let out = &mut rounded[g * self.group..][..self.group];
                let (step, total) = match self.group {
                    32 => round_group::<32>(x, out),
                    64 => round_group::<64>(x, out),
                    _ => round_group::<128>(x, out),
                };
                let at = self.first_group + row * self.strides[0] + g * self.strides[1];
                // SAFETY: a group belongs to one block, and a block is rounded by one thread.
                unsafe {
                    self.steps.write(at, step);
                    self.totals.write(at, total);
                }
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

/// Rounds one group; returns its step and the sum of its rounded values.
///
/// A group too small to be divided by (below 1e-36) counts as zero. A group with an infinity or a NaN has a NaN
/// for its step, so that everything that is computed from it becomes NaN too.
#[inline(always)]
fn round_group<const GROUP: usize>(x: &[f32], out: &mut [i8]) -> (f32, f32) {
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
    (step, step * sum as f32)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn a_group_is_rounded_to_its_largest_magnitude() {
        let x: Vec<f32> = (0..32).map(|i| (i as f32 - 20.0) * 0.25).collect();
        let mut out = [0; 32];
        let (step, total) = round_group::<32>(&x, &mut out);
        assert_eq!(step, 5.0 / 127.0);
        assert_eq!((out[0], out[20], out[31]), (-127, 0, 70));
        for (x, &q) in x.iter().zip(&out) {
            assert!((x - step * f32::from(q)).abs() <= step * 0.5001);
        }
        let sum: i32 = out.iter().map(|&q| i32::from(q)).sum();
        assert_eq!(total, step * sum as f32);
    }

    #[test]
    fn groups_without_a_usable_magnitude() {
        let mut out = [1; 32];
        for tiny in [0.0, -0.0, 1e-40, 3e-37] {
            let scale = round_group::<32>(&[tiny; 32], &mut out);
            assert_eq!((scale, out), ((0.0, 0.0), [0; 32]));
        }
        for broken in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut x = [1.0; 32];
            x[7] = broken;
            let (step, total) = round_group::<32>(&x, &mut out);
            assert!(step.is_nan() && total.is_nan());
        }
        let (step, _) = round_group::<32>(&[f32::MAX; 32], &mut out);
        assert_eq!((step, out), (f32::MAX / 127.0, [127; 32]));
    }

    #[test]
    fn every_value_is_where_the_products_look_for_it() {
        // 192 columns are a block and a half.
        let (cols, group) = (192, 32);
        for tiles in [&[0..2, 2..7, 7..8][..], slice::from_ref(&(0..3))] {
            let rows = tiles[tiles.len() - 1].end;
            let values = (0..rows * cols).map(|i| ((i * 37) % 255) as f32 - 127.0);
            let x: Vec<f32> = values.collect();
            for bits in [Bits::Four, Bits::Eight] {
                let input = ActivationRows::all(&x, cols);
                let all = Activations::new(&Cpu::new(2), input, tiles, bits, group);
                for (row, x) in x.chunks(cols).enumerate() {
                    let index = tiles.iter().position(|tile| tile.contains(&row)).unwrap();
                    let tile = all.tile(index);
                    let row = row - tiles[index].start;
                    for (g, x) in x.chunks(group).enumerate() {
                        let mut expected = [0; 32];
                        let scale = round_group::<32>(x, &mut expected);
                        let at = if tile.rows <= FEW {
                            row * tile.groups + g
                        } else {
                            g * tile.rows + row
                        };
                        assert_eq!((tile.steps[at], tile.totals[at]), scale);
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
}
