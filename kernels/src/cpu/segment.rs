//! A run of a batch's rows that belongs to one sequence, with the state that it updates.

use std::ops::Range;

use super::tasks::Tile;

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

/// Cuts an operation's output into the tiles of its segments, in their order.
///
/// # Panics
/// If the segments are not in ascending order, overlap or leave the batch.
pub(super) fn tiles<'t, S: ?Sized>(
    mut out: Tile<'t>,
    segments: &[Segment<'_, S>],
) -> Vec<Tile<'t>> {
    let mut reached = 0;
    let mut tiles = Vec::with_capacity(segments.len());
    for Segment { rows, .. } in segments {
        assert!(
            reached <= rows.start && rows.start <= rows.end,
            "segment {rows:?} after row {reached}"
        );
        let (tile, rest) = out
            .split_rows(rows.start - reached)
            .1
            .split_rows(rows.len());
        tiles.push(tile);
        out = rest;
        reached = rows.end;
    }
    tiles
}
