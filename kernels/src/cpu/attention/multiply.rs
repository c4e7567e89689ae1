//! The one product that attention is made of: a few rows of floats times a matrix of cached lines.

use crate::cpu::simd::{LANES, Line, Simd, prefetch};

/// A matrix of lines in which the product sums down columns.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a, L> {
    pub(super) lines: &'a [L],
    /// Lines from one summand to the next.
    pub(super) step: usize,
    /// Lines from one group of sixteen columns to the next.
    pub(super) group: usize,
    /// What will be needed next, as many lines as these, fetched meanwhile. The hardware does not foresee these
    /// strides: a decode over a long context is half as fast again and more for it.
    pub(super) ahead: &'a [L],
}

/// Rows of floats, `stride` apart.
pub(super) struct StridedRows<'a> {
    pub(super) floats: &'a [f32],
    pub(super) stride: usize,
}

/// `to[q] += Σ_k rows[q][k] · lines[k]` for `count` rows, `steps` summands and `groups` groups of columns; `to`'s
/// rows are `to_stride` apart.
///
/// Each element is one chain of multiply-adds in ascending order of `k`, whatever the blocking.
#[inline(always)]
pub(super) fn multiply<S: Simd, L: Line>(
    s: S,
    rows: StridedRows<'_>,
    lines: Lines<'_, L>,
    (count, steps, groups): (usize, usize, usize),
    to: &mut [f32],
    to_stride: usize,
) {
    /// Rows that share a load of the lines.
    const MOST: usize = 4;
    for first in (0..count).step_by(MOST) {
        let rows = StridedRows {
            floats: &rows.floats[first * rows.stride..],
            ..rows
        };
        let ahead = if first == 0 { lines.ahead } else { &[] };
        let lines = Lines { ahead, ..lines };
        let to = &mut to[first * to_stride..];
        match count - first {
            1 => block::<S, L, 1>(s, rows, lines, (steps, groups), to, to_stride),
            2 => block::<S, L, 2>(s, rows, lines, (steps, groups), to, to_stride),
            3 => block::<S, L, 3>(s, rows, lines, (steps, groups), to, to_stride),
            _ => block::<S, L, 4>(s, rows, lines, (steps, groups), to, to_stride),
        }
    }
}

/// [`multiply`] for `Q` rows.
#[inline(always)]
fn block<S: Simd, L: Line, const Q: usize>(
    s: S,
    rows: StridedRows<'_>,
    lines: Lines<'_, L>,
    (steps, groups): (usize, usize),
    to: &mut [f32],
    to_stride: usize,
) {
    let mut group = 0;
    // With registers to spare, four groups of columns at a time.
    while S::WIDE && group + 4 <= groups {
        registers::<S, L, Q, 4>(s, &rows, lines, steps, group, to, to_stride);
        group += 4;
    }
    while group < groups {
        registers::<S, L, Q, 1>(s, &rows, lines, steps, group, to, to_stride);
        group += 1;
    }
}

/// [`multiply`] for `Q` rows and `G` groups of columns from `group` on, which fit in the registers.
#[inline(always)]
fn registers<S: Simd, L: Line, const Q: usize, const G: usize>(
    s: S,
    rows: &StridedRows<'_>,
    lines: Lines<'_, L>,
    steps: usize,
    group: usize,
    to: &mut [f32],
    to_stride: usize,
) {
    if steps == 0 {
        return;
    }
    let matrix = &lines.lines[group * lines.group..];
    assert!((steps - 1) * lines.step + (G - 1) * lines.group < matrix.len());
    assert!((Q - 1) * rows.stride + steps <= rows.floats.len());
    let mut sums = [[s.splat(0.0); G]; Q];
    for q in 0..Q {
        let to = to[q * to_stride + group * LANES..].as_chunks::<LANES>().0;
        for g in 0..G {
            sums[q][g] = s.load(&to[g]);
        }
    }
    for k in 0..steps {
        if let Some(ahead) = lines.ahead.get(group * steps + k * G..) {
            for line in ahead.iter().take(G).step_by(64 / size_of::<L>()) {
                prefetch(line);
            }
        }
        let mut line = [s.splat(0.0); G];
        for (g, line) in line.iter_mut().enumerate() {
            // SAFETY: `k < steps` and `g < G`, and the largest such index was checked above.
            *line = unsafe { matrix.get_unchecked(k * lines.step + g * lines.group) }.load(s);
        }
        for (q, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `q < Q` and `k < steps`, and the largest such index was checked above.
            let x = s.splat(unsafe { *rows.floats.get_unchecked(q * rows.stride + k) });
            for g in 0..G {
                sums[g] = s.mul_add(x, line[g], sums[g]);
            }
        }
    }
    for q in 0..Q {
        let to = to[q * to_stride + group * LANES..]
            .as_chunks_mut::<LANES>()
            .0;
        for g in 0..G {
            s.store(sums[q][g], &mut to[g]);
        }
    }
}
