//! A slice that several threads write at once, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice whose parts are handed out to tasks that run at the same time.
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: sharing the wrapper only gives access through `slice`, whose callers promise that no element is reached
// twice; each element is thus used by one thread at a time, which `T: Send` allows.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrow: PhantomData,
        }
    }

    /// The elements in `range`.
    ///
    /// # Safety
    /// While the result lives, no element of it may be asked for again.
    #[allow(clippy::mut_from_ref)] // the point of the type
    pub(super) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within the slice that was borrowed for 'a, and not aliased as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
    /// Writes one element.
    ///
    /// # Safety
    /// No other thread may use the element at the same time.
    #[inline(always)]
    pub(super) unsafe fn write(&self, index: usize, value: T) {
        // SAFETY: the caller vouches for the element.
        unsafe { self.slice(index..index + 1)[0] = value };
    }
}
