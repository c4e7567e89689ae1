//! How an operation's output is shared out: each task owns what it writes.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::Pool;
use super::simd::{F32Line, LANES, Line};

/// The least work for which another thread is worth waking, in elements of a cheap row operation: a few
/// microseconds.
const ELEMENTS_PER_TASK: usize = 8 * 1024;

/// How many rows of `width` elements make a task when `rows` of them are shared out.
pub(super) fn rows_per_task(pool: &Pool, rows: usize, width: usize) -> usize {
    let worthwhile = (ELEMENTS_PER_TASK / width.max(1)).max(1);
    worthwhile.max(rows.div_ceil(pool.threads() * 4))
}

/// How many elements make a task when `len` of them are shared out: whole vectors.
pub(super) fn elements_per_task(pool: &Pool, len: usize) -> usize {
    rows_per_task(pool, len.div_ceil(LANES), LANES) * LANES
}

/// Runs `task` on every item, each on some thread.
pub(super) fn run_each<T: Send>(pool: &Pool, items: &mut [T], task: impl Fn(&mut T) + Sync) {
    let count = items.len();
    let first = AtomicPtr::new(items.as_mut_ptr());
    pool.run(count, &|index| {
        assert!(index < count);
        // SAFETY: the pool hands out each index once, so no two tasks touch the same item; the index is in
        // bounds; `items` is borrowed until `run` returns, which is after every task.
        task(unsafe { &mut *first.load(Relaxed).add(index) });
    });
}

/// A rectangle of a row-major matrix, to be written by one task.
#[derive(Debug)]
pub(super) struct Tile<'a> {
    first: *mut f32,
    rows: usize,
    columns: usize,
    /// Floats from one row of the matrix to the next.
    stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is an exclusive borrow of its elements, as `&mut [f32]` is.
unsafe impl Send for Tile<'_> {}
// SAFETY: as above; a shared tile can only be read.
unsafe impl Sync for Tile<'_> {}

impl<'a> Tile<'a> {
    /// All of `matrix`, which has `columns` columns.
    pub(super) fn new(matrix: &'a mut [f32], columns: usize) -> Self {
        assert!(columns > 0 && matrix.len().is_multiple_of(columns));
        Self {
            first: matrix.as_mut_ptr(),
            rows: matrix.len() / columns,
            columns,
            stride: columns,
            matrix: PhantomData,
        }
    }

    /// How many rows it has.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Its first `rows` rows, and the others.
    pub(super) fn split_rows(self, rows: usize) -> (Self, Self) {
        assert!(rows <= self.rows, "row {rows} of {}", self.rows);
        // Where nothing is left the pointer must not leave the matrix.
        let skip = if rows == self.rows {
            0
        } else {
            rows * self.stride
        };
        let rest = Self {
            // SAFETY: row `rows` exists, so its start lies in the matrix.
            first: unsafe { self.first.add(skip) },
            rows: self.rows - rows,
            ..self
        };
        (Self { rows, ..self }, rest)
    }

    /// Its first `columns` columns, and the others.
    pub(super) fn split_columns(self, columns: usize) -> (Self, Self) {
        assert!(
            columns <= self.columns,
            "column {columns} of {}",
            self.columns
        );
        let skip = if self.rows == 0 { 0 } else { columns };
        let rest = Self {
            // SAFETY: there is a row, and its first `columns` elements belong to this tile.
            first: unsafe { self.first.add(skip) },
            columns: self.columns - columns,
            ..self
        };
        (Self { columns, ..self }, rest)
    }

    /// Copies row `from` to row `to`.
    pub(super) fn copy_row(&mut self, from: usize, to: usize) {
        for column in 0..self.columns {
            self.row(to)[column] = self.get(from)[column];
        }
    }

    /// Row `row`'s part of the rectangle, to be read.
    #[inline(always)]
    pub(super) fn get(&self, row: usize) -> &[f32] {
        assert!(row < self.rows);
        // SAFETY: the row exists, its `columns` elements belong to this tile alone, and the borrow of `self`
        // keeps them from being written meanwhile.
        unsafe { std::slice::from_raw_parts(self.first.add(row * self.stride), self.columns) }
    }

    /// Row `row`'s part of the rectangle, to be written.
    #[inline(always)]
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: the row exists, its `columns` elements belong to this tile alone, and the borrow of `self`
        // keeps them from being handed out twice.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }
}

/// Lends `len` floats of working memory, aligned to cache lines, that the thread keeps from task to task; they
/// hold anything.
pub(super) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Vec<F32Line>> = const { RefCell::new(Vec::new()) };
    }
    let mut scratch = SCRATCH.take();
    if scratch.len() * LANES < len {
        scratch.resize(len.div_ceil(LANES), F32Line::ZERO);
    }
    let result = work(&mut F32Line::flatten(&mut scratch)[..len]);
    SCRATCH.set(scratch);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_a_matrix_without_overlap() {
        let mut matrix = vec![0.0; 5 * 7];
        let (top, bottom) = Tile::new(&mut matrix, 7).split_rows(2);
        let (top_left, top_right) = top.split_columns(3);
        let (bottom, nothing) = bottom.split_rows(3);
        assert_eq!(nothing.rows(), 0);
        let mut tiles = [top_left, top_right, bottom];
        run_each(&Pool::new(3), &mut tiles, |tile| {
            for row in 0..tile.rows() {
                tile.row(row).iter_mut().for_each(|x| *x += 1.0);
            }
        });
        tiles[1].row(1)[3] = 9.0;
        assert_eq!(matrix.iter().filter(|&&x| x == 1.0).count(), 34);
        assert_eq!(matrix[7 + 6], 9.0);
    }

    #[test]
    fn scratch_may_be_nested() {
        with_scratch(20, |outer| {
            outer[19] = 3.0;
            with_scratch(40, |inner| {
                inner.fill(1.0);
                assert_eq!(inner.len(), 40);
            });
            assert_eq!(outer[19], 3.0);
        });
        assert_eq!(with_scratch(1, |floats| floats.len()), 1);
    }
}
