//! A run of a batch's rows that belongs to one sequence, with the state that it updates.

use std::ops::Range;

/// Consecutive rows of a ragged batch and the state of the sequence that they continue.
///
/// The stateful operations take segments in ascending order of their rows; rows that no segment names are
/// left alone.
#[derive(Debug)]
pub struct Segment<'a, S: ?Sized> {
    /// Which rows of the batch.
    pub rows: Range<usize>,
    /// The sequence's memory in this layer: a `KvCache`, a convolution's tail or a recurrent state.
    pub state: &'a mut S,
}

impl<'a, S: ?Sized> Segment<'a, S> {
    /// The rows `rows` continue the sequence whose memory is `state`.
    pub fn new(rows: Range<usize>, state: &'a mut S) -> Self {
        Self { rows, state }
    }
}
