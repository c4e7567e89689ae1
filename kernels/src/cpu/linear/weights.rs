//! A quantised matrix as the products walk over it: panel by panel, with scales and biases a few groups at a time.

use std::borrow::Cow;

use super::lanes::{LINE, Lanes, MAX_ROWS, PARTS};
use super::matrix::{Affine, Float};

/// How far ahead of the panel in work weights are asked for, in bytes.
const AHEAD: usize = 32 << 10;

/// A matrix with at least as many rows as a panel.
pub(super) struct PanelWeights<'a> {
    matrix: Affine<'a>,
    rows: usize,
    packed: Cow<'a, [u8]>,
    scales: Cow<'a, [u8]>,
    biases: Cow<'a, [u8]>,
}

impl<'a> PanelWeights<'a> {
    /// The matrix itself, or a copy padded with zeros if it is smaller than a panel.
    pub(super) fn of(matrix: &Affine<'a>, least: usize) -> Self {
        let rows = matrix.rows.max(least);
        let pad = |part: &'a [u8], row: usize| {
            if matrix.rows == rows {
                return Cow::Borrowed(part);
            }
            let mut padded = part.to_vec();
            padded.resize(rows * row, 0);
            Cow::Owned(padded)
        };
        let float_row = matrix.groups() * matrix.float.size();
        Self {
            matrix: *matrix,
            rows,
            packed: pad(matrix.packed, matrix.packed_row()),
            scales: pad(matrix.scales, float_row),
            biases: pad(matrix.biases, float_row),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The panel that begins at `row`.
    #[inline(always)]
    pub(super) fn panel<L: Lanes>(&self, row: usize) -> Panel<'_> {
        assert!(row + L::ROWS <= self.rows);
        let stride = self.matrix.packed_row();
        let groups = self.matrix.groups();
        let float_row = groups * self.matrix.float.size();
        Panel {
            packed: self.packed[row * stride..][..L::ROWS * stride].as_ptr(),
            stride,
            groups,
            columns_per_group: self.matrix.columns_per_group(),
            float: self.matrix.float,
            scales: &self.scales[row * float_row..][..L::ROWS * float_row],
            biases: &self.biases[row * float_row..][..L::ROWS * float_row],
        }
    }
}

/// Some consecutive rows of weights, as many as an instruction set has lanes.
pub(super) struct Panel<'a> {
    /// The first row's packed weights.
    pub packed: *const u8,
    /// Bytes of packed weights a row.
    pub stride: usize,
    pub groups: usize,
    /// Columns of 16 packed bytes in a group.
    pub columns_per_group: usize,
    float: Float,
    scales: &'a [u8],
    biases: &'a [u8],
}

impl Panel<'_> {
    /// Scale and bias of each of the groups from `group` on, at most [`PARTS`].
    #[inline(always)]
    pub(super) unsafe fn parameters<L: Lanes>(&self, group: usize) -> [[L::Floats; 2]; PARTS] {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut parameters = [[L::zero(); 2]; PARTS];
            for (i, part) in [self.scales, self.biases].into_iter().enumerate() {
                let span = self.span::<L>(part, group);
                for g in 0..PARTS {
                    parameters[g][i] = span[g];
                }
            }
            parameters
        }
    }

    #[inline(always)]
    unsafe fn span<L: Lanes>(&self, part: &[u8], group: usize) -> [L::Floats; PARTS] {
        let size = self.float.size();
        let stride = self.groups * size;
        let first = &part[group * size..];
        if self.groups - group >= PARTS {
            // SAFETY: each of the panel's rows has PARTS values left.
            return unsafe { read_span::<L>(self.float, first.as_ptr(), stride) };
        }
        let len = (self.groups - group) * size;
        let mut padded = [0; MAX_ROWS * PARTS * 4];
        for (row, padded) in padded.chunks_exact_mut(PARTS * 4).take(L::ROWS).enumerate() {
            padded[..len].copy_from_slice(&first[row * stride..][..len]);
        }
        // SAFETY: the copy has MAX_ROWS rows of PARTS values of any type.
        unsafe { read_span::<L>(self.float, padded.as_ptr(), PARTS * 4) }
    }

    /// Asks for as many weights as one line of this panel, from a panel further down and in the order in which
    /// they lie there: rows of a panel are too many streams for the hardware to see through.
    #[inline(always)]
    pub(super) fn prefetch<L: Lanes>(&self, line: usize) {
        let ahead = AHEAD.next_multiple_of(L::ROWS * self.stride);
        let from = self.packed.wrapping_add(ahead + line * L::ROWS * 16 * LINE);
        for i in 0..L::ROWS {
            L::prefetch(from.wrapping_add(i * 16 * LINE));
        }
    }
}

/// Reads [`PARTS`] values of each of a panel's rows.
///
/// # Safety
/// As for [`Lanes`]; `first` and the rows `stride` apart from it must hold that many.
#[inline(always)]
unsafe fn read_span<L: Lanes>(float: Float, first: *const u8, stride: usize) -> [L::Floats; PARTS] {
    // SAFETY: sixteen bytes are eight short or four long values.
    unsafe {
        let [a, b, c, d] = L::transpose(first, stride);
        match float {
            Float::F32 => {
                let [e, f, g, h] = L::transpose(first.add(16), stride);
                [
                    L::f32(a),
                    L::f32(b),
                    L::f32(c),
                    L::f32(d),
                    L::f32(e),
                    L::f32(f),
                    L::f32(g),
                    L::f32(h),
                ]
            }
            Float::F16 => {
                let ([a0, a1], [b0, b1]) = (L::f16(a), L::f16(b));
                let ([c0, c1], [d0, d1]) = (L::f16(c), L::f16(d));
                [a0, a1, b0, b1, c0, c1, d0, d1]
            }
            Float::Bf16 => {
                let ([a0, a1], [b0, b1]) = (L::bf16(a), L::bf16(b));
                let ([c0, c1], [d0, d1]) = (L::bf16(c), L::bf16(d));
                [a0, a1, b0, b1, c0, c1, d0, d1]
            }
        }
    }
}
