//! Products with f32 activations: dense matrices, and the exact form of the quantised ones.
//!
//! One output is summed up in sixteen parts with fused multiply-adds, part `l` taking the columns `k` with
//! `k mod 16 = l` in their order; then the parts are added pairwise, `l` and `l + 8`, `l + 4` and so on. The loops are plain
//! Rust in shapes that become vector code under whichever instructions [`dispatch`](super::dispatch::dispatch) turns on.

use std::ops::Range;

use super::activation_rows::ActivationRows;
use super::disjoint::Disjoint;
use super::lanes::{Lanes, MAX_ROWS, Routine};
use super::matrix::{Dense, Float, Matrix, f16_to_f32};

/// Parts of a sum.
const PARTS: usize = 16;
/// Weight rows that are multiplied at a time.
const WEIGHTS: usize = 4;
/// From this many activation rows on, a block of weights is converted to f32 once instead of once a tile.
const MANY: usize = 8;

/// Multiplies `rows` of `matrix` with some rows of activations in f32.
pub(super) struct Products<'a> {
    pub matrix: Matrix<'a>,
    pub rows: Range<usize>,
    pub x: ActivationRows<'a>,
    /// `[all activation rows, matrix.rows]`
    pub out: &'a Disjoint<'a, f32>,
    /// The first of `x`'s rows among all activation rows.
    pub first: usize,
}

impl Routine for Products<'_> {
    type Output = ();

    /// # Safety
    /// See [`Routine`]; besides, no part of the outputs may be in use elsewhere.
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let cols = self.matrix.cols();
        let n = self.x.len();
        let mut scratch = Vec::new();
        let mut row = self.rows.start;
        while row < self.rows.end {
            let count = WEIGHTS.min(self.rows.end - row);
            // Missing rows are stood in for by the last one; their results go nowhere.
            let rows: [usize; WEIGHTS] = std::array::from_fn(|i| row + i.min(count - 1));
            let write = |x: usize, y: &[f32]| {
                let at = (self.first + x) * self.matrix.rows() + row;
                // SAFETY: these outputs belong to this call, see above.
                let out = unsafe { self.out.slice(at..at + count) };
                out.copy_from_slice(&y[..count]);
            };
            match self.matrix {
                Matrix::Dense(m) if n < MANY => {
                    let w = rows.map(|row| m.row(row));
                    match m.float {
                        Float::F32 => multiply::<L, Single>(w, self.x, write),
                        Float::F16 => multiply::<L, HalfFloat>(w, self.x, write),
                        Float::Bf16 => multiply::<L, Bfloat>(w, self.x, write),
                    }
                }
                matrix => {
                    scratch.resize(WEIGHTS * cols, 0.0);
                    for (out, row) in scratch.chunks_exact_mut(cols).zip(rows) {
                        expand(&matrix, row, out);
                    }
                    let w = std::array::from_fn(|i| &scratch[i * cols..][..cols]);
                    multiply::<L, Expanded>(w, self.x, write);
                }
            }
            row += count;
        }
    }
}

/// Writes rows of a matrix as f32.
pub(super) struct Gather<'a> {
    pub matrix: Matrix<'a>,
    pub rows: &'a [u32],
    /// `[rows, cols]`
    pub out: &'a mut [f32],
}

impl Routine for Gather<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let out = self.out.chunks_exact_mut(self.matrix.cols());
        for (out, &row) in out.zip(self.rows) {
            expand(&self.matrix, row as usize, out);
        }
    }
}

/// Writes one row of a matrix as f32.
#[inline(always)]
fn expand(matrix: &Matrix<'_>, row: usize, out: &mut [f32]) {
    match matrix {
        Matrix::Affine(m) => m.dequantise_row(row, out),
        Matrix::Dense(m) => match m.float {
            Float::F32 => expand_dense::<Single>(m, row, out),
            Float::F16 => expand_dense::<HalfFloat>(m, row, out),
            Float::Bf16 => expand_dense::<Bfloat>(m, row, out),
        },
    }
}

#[inline(always)]
fn expand_dense<'a, S: StoredFloat<Value = u8>>(matrix: &Dense<'a>, row: usize, out: &mut [f32]) {
    let bytes = matrix.row(row);
    let (whole, rest) = out.as_chunks_mut::<PARTS>();
    for (part, out) in whole.iter_mut().enumerate() {
        *out = S::read(bytes, part * PARTS);
    }
    let done = bytes.len() / matrix.float.size() - rest.len();
    for (i, out) in rest.iter_mut().enumerate() {
        *out = matrix.float.read(bytes, done + i);
    }
}

/// A way to store a row of weights.
trait StoredFloat {
    type Value;
    /// Sixteen weights from index `at` on.
    fn read(row: &[Self::Value], at: usize) -> [f32; PARTS];
    /// Fewer than sixteen weights from index `at` to the row's end, then zeros.
    fn read_rest(row: &[Self::Value], at: usize) -> [f32; PARTS];
}

struct Single;
struct HalfFloat;
struct Bfloat;
struct Expanded;

macro_rules! stored_as_bytes {
    ($type:ty, $bytes:literal, $convert:expr) => {
        impl StoredFloat for $type {
            type Value = u8;

            #[inline(always)]
            fn read(row: &[u8], at: usize) -> [f32; PARTS] {
                let (values, _) = row[at * $bytes..][..PARTS * $bytes].as_chunks::<$bytes>();
                let mut weights = [0.0; PARTS];
                for i in 0..PARTS {
                    weights[i] = $convert(values[i]);
                }
                weights
            }

            #[inline(always)]
            fn read_rest(row: &[u8], at: usize) -> [f32; PARTS] {
                let mut padded = [0; PARTS * $bytes];
                let rest = &row[at * $bytes..];
                padded[..rest.len()].copy_from_slice(rest);
                Self::read(&padded, 0)
            }
        }
    };
}

stored_as_bytes!(Single, 4, f32::from_le_bytes);
stored_as_bytes!(HalfFloat, 2, |b| f16_to_f32(u16::from_le_bytes(b)));
stored_as_bytes!(Bfloat, 2, |b| f32::from_bits(
    u32::from(u16::from_le_bytes(b)) << 16
));

impl StoredFloat for Expanded {
    type Value = f32;

    #[inline(always)]
    fn read(row: &[f32], at: usize) -> [f32; PARTS] {
        let mut weights = [0.0; PARTS];
        weights.copy_from_slice(&row[at..][..PARTS]);
        weights
    }

    #[inline(always)]
    fn read_rest(row: &[f32], at: usize) -> [f32; PARTS] {
        let mut padded = [0.0; PARTS];
        let rest = &row[at..];
        padded[..rest.len()].copy_from_slice(rest);
        padded
    }
}

/// Multiplies four rows of weights with every row of `x`.
#[inline(always)]
fn multiply<L: Lanes, S: StoredFloat>(
    w: [&[S::Value]; WEIGHTS],
    x: ActivationRows<'_>,
    write: impl Fn(usize, &[f32]),
) {
    let (rows, cols) = (x.len(), x.cols());
    let x_row = |n: usize| x.row(n);
    let mut n = 0;
    // Only the widest instruction set has the registers for four by four sums.
    if L::ROWS == MAX_ROWS {
        while n + 4 <= rows {
            let y = tile::<S, WEIGHTS, 4>(w, std::array::from_fn(|i| x_row(n + i)), cols);
            y.iter().enumerate().for_each(|(i, y)| write(n + i, y));
            n += 4;
        }
    } else {
        while n + 2 <= rows {
            let x = [x_row(n), x_row(n + 1)];
            let low = tile::<S, 2, 2>([w[0], w[1]], x, cols);
            let high = tile::<S, 2, 2>([w[2], w[3]], x, cols);
            for i in 0..2 {
                write(n + i, &[low[i], high[i]].concat());
            }
            n += 2;
        }
    }
    while n < rows {
        let [y] = tile::<S, WEIGHTS, 1>(w, [x_row(n)], cols);
        write(n, &y);
        n += 1;
    }
}

/// `W` rows of weights times `X` rows of activations: `[X, W]`.
#[inline(always)]
fn tile<S: StoredFloat, const W: usize, const X: usize>(
    w: [&[S::Value]; W],
    x: [&[f32]; X],
    cols: usize,
) -> [[f32; W]; X] {
    let mut sums = [[[0.0_f32; PARTS]; W]; X];
    let whole = cols / PARTS * PARTS;
    let mut at = 0;
    while at < whole {
        let mut weights = [[0.0; PARTS]; W];
        for i in 0..W {
            weights[i] = S::read(w[i], at);
        }
        for i in 0..X {
            add_products(&mut sums[i], &weights, &Expanded::read(x[i], at));
        }
        at += PARTS;
    }
    if whole < cols {
        let mut weights = [[0.0; PARTS]; W];
        for i in 0..W {
            weights[i] = S::read_rest(w[i], whole);
        }
        for i in 0..X {
            add_products(&mut sums[i], &weights, &Expanded::read_rest(x[i], whole));
        }
    }
    sums.map(|sums| sums.map(add_up))
}

#[inline(always)]
fn add_products<const W: usize>(
    sums: &mut [[f32; PARTS]; W],
    w: &[[f32; PARTS]; W],
    x: &[f32; PARTS],
) {
    for i in 0..W {
        for l in 0..PARTS {
            sums[i][l] = w[i][l].mul_add(x[l], sums[i][l]);
        }
    }
}

/// Adds the parts of one sum pairwise.
#[inline(always)]
fn add_up(mut parts: [f32; PARTS]) -> f32 {
    let mut width = PARTS / 2;
    while width > 0 {
        for l in 0..width {
            parts[l] += parts[l + width];
        }
        width /= 2;
    }
    parts[0]
}
