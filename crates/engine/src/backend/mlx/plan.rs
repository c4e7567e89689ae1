//! One pass seen from the caches: where every row's memory lies, worked out once for all layers.

use std::cell::OnceCell;

use mlx_rs::Array;
use sanctum_kernels::gpu::SEGMENT_QUERIES;

use super::ops::{dim, indices};
use super::pages::{PAGE, PageTable};
use crate::backend::batch::{BatchSegment, SlotId};

/// The places of a pass.
pub struct Plan {
    /// Each row's position in its sequence, `[N]`.
    pub positions: Array,
    /// Each row's place in the pools of keys and values, `[N]`.
    pub places: Array,
    /// What each segment's queries see.
    pub reads: Vec<Read>,
    /// The same for kernels: for each row its segment and the keys that it sees, `[N, 2]`.
    pub rows: Array,
    /// Each segment's pages, `[segments, most pages]`.
    pub table: Array,
    /// The most keys that a row sees.
    pub longest: usize,
    /// The recurrent layers' part.
    pub recurrent: Recurrent,
    /// See [`Self::units`].
    units: OnceCell<Array>,
}

/// One segment's queries, and the keys and values of its sequence, its own rows included.
pub struct Read {
    /// Its rows in the batch.
    pub start: usize,
    /// How many there are.
    pub len: usize,
    /// Where the sequence lies in the pools, in order, as few pieces as there are.
    pub runs: Vec<(usize, usize)>,
}

/// Where the recurrent layers find what they remember, and in which order they leave it.
///
/// The layers keep one row for each live sequence. A pass takes the rows of its sequences by index and leaves new
/// ones: there is no writing back, and who has left is simply not taken along.
pub struct Recurrent {
    /// Segments of one length, computed together.
    pub groups: Vec<Group>,
    /// Rows that this pass does not touch, taken over behind those of the groups.
    pub carried: Vec<usize>,
    /// Which sequence each row belongs to after the pass.
    pub order: Vec<Option<SlotId>>,
    /// Where the groups' rows, one after the other, go in the batch, `[N]`; none: where they are.
    pub back: Option<Array>,
    /// For each tap of the convolution the rows that it sees, `[kernel, N]`: counted in a zero row, then the old tails,
    /// then the batch.
    pub seen: Array,
    /// What the tails are made of after the pass, counted likewise, `[rows * (kernel - 1)]`.
    pub tails: Array,
    /// Rows of the batch, and of the old tails, `[8]`.
    pub counts: Array,
    /// For each row after the pass: its first row in the batch, how many, and its old row or -1, `[rows, 3]`.
    pub segments: Array,
}

/// Segments of one length.
pub struct Group {
    /// The length.
    pub len: usize,
    /// Their rows of the batch, sequence by sequence, `[members * len]`; none: all of the batch in order.
    pub rows: Option<Array>,
    /// The old row of each member's memory; none for a sequence that begins.
    pub members: Vec<Option<usize>>,
}

/// Rows that the recurrent layers keep: which sequence each belongs to; none where it has ended.
pub(super) type Rows = [Option<SlotId>];

impl Plan {
    /// Where the rows of `segments` lie; the table has room for them and has counted them already.
    pub fn new(segments: &[BatchSegment], table: &PageTable, kept: &Rows, kernel: usize) -> Self {
        let (mut positions, mut places, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        let (mut rows, mut pages) = (Vec::new(), Vec::new());
        let longest = segments.iter().map(|s| table.of(s.slot).len()).max();
        let longest = longest.unwrap_or_default();
        let most = longest.div_ceil(PAGE);
        for (line, segment) in segments.iter().enumerate() {
            let sequence = table.of(segment.slot);
            let end = sequence.len();
            rows.extend(
                (end - segment.len..end).flat_map(|position| [dim(line), dim(position + 1)]),
            );
            // What lies behind a shorter sequence's pages is never read.
            let own = sequence.pages().iter().copied().chain(std::iter::repeat(0));
            pages.extend(own.take(most).map(dim));
            positions.extend(end - segment.len..end);
            places.extend((end - segment.len..end).map(|position| sequence.place(position)));
            reads.push(Read {
                start: segment.start,
                len: segment.len,
                runs: runs(sequence.pages(), end),
            });
        }
        Self {
            positions: indices(positions),
            places: indices(places),
            reads,
            rows: Array::from_slice(&rows, &[dim(rows.len() / 2), 2]),
            table: Array::from_slice(&pages, &[dim(segments.len()), dim(most)]),
            longest,
            recurrent: Recurrent::new(segments, kept, kernel),
            units: OnceCell::new(),
        }
    }

    /// Whether every row is its sequence's only one.
    pub fn each_alone(&self) -> bool {
        self.reads.iter().all(|read| read.len == 1)
    }

    /// What groups of `sdpa_tensor` take, `heads` queries a row: `[units, 4]`. The last queries of each segment, which see the
    /// most, come first.
    pub fn units(&self, heads: usize) -> &Array {
        self.units.get_or_init(|| {
            let units = |read: &Read| {
                let (start, len) = (read.start, read.len);
                let first = (0..len * heads).step_by(SEGMENT_QUERIES).rev();
                first.map(move |query| [start, len, query, 0].map(dim))
            };
            let units: Vec<[i32; 4]> = self.reads.iter().flat_map(units).collect();
            Array::from_slice(units.as_flattened(), &[dim(units.len()), 4])
        })
    }
}

/// The places of the first `len` positions, neighbouring pages joined.
fn runs(pages: &[usize], len: usize) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, page) in pages.iter().take(len.div_ceil(PAGE)).enumerate() {
        let start = page * PAGE;
        let end = start + PAGE.min(len - index * PAGE);
        match runs.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => runs.push((start, end)),
        }
    }
    runs
}

impl Recurrent {
    fn new(segments: &[BatchSegment], kept: &Rows, kernel: usize) -> Self {
        let old_row = |slot: SlotId| kept.iter().position(|&owner| owner == Some(slot));
        let mut lens: Vec<usize> = segments.iter().map(|segment| segment.len).collect();
        lens.sort_unstable();
        lens.dedup();
        let total: usize = segments.iter().map(|segment| segment.len).sum();
        let (mut groups, mut ordered) = (Vec::new(), Vec::<&BatchSegment>::new());
        for len in lens {
            let members: Vec<&BatchSegment> = segments.iter().filter(|s| s.len == len).collect();
            let rows: Vec<usize> = members
                .iter()
                .flat_map(|s| s.start..s.start + len)
                .collect();
            let all = rows.len() == total && rows.is_sorted();
            groups.push(Group {
                len,
                rows: (!all).then(|| indices(rows)),
                members: members.iter().map(|s| old_row(s.slot)).collect(),
            });
            ordered.extend(members);
        }
        let touched = |slot: SlotId| ordered.iter().any(|segment| segment.slot == slot);
        let waits = |row: &usize| kept[*row].is_some_and(|slot| !touched(slot));
        let carried: Vec<usize> = (0..kept.len()).filter(waits).collect();
        let mut order: Vec<_> = ordered.iter().map(|segment| Some(segment.slot)).collect();
        order.extend(carried.iter().map(|&row| kept[row]));
        let mut from = vec![0; total];
        let grouped = ordered.iter().flat_map(|s| s.start..s.start + s.len);
        grouped.enumerate().for_each(|(at, row)| from[row] = at);
        let back = (!from.is_sorted()).then(|| indices(from));

        let tail = kernel - 1;
        let batch = 1 + kept.len() * tail;
        // Row `at - tail` of a segment: its own rows follow on those that were there before.
        let seen =
            |segment: &BatchSegment, at: usize| match (at.checked_sub(tail), old_row(segment.slot))
            {
                (Some(row), _) => batch + segment.start + row,
                (None, Some(row)) => 1 + row * tail + at,
                (None, None) => 0,
            };
        let taps = (0..kernel).flat_map(|tap| {
            let rows = segments
                .iter()
                .flat_map(|s| (0..s.len).map(move |t| (s, t)));
            rows.map(move |(segment, t)| (segment, t + tap))
        });
        let seen_by_taps = indices(taps.map(|(segment, at)| seen(segment, at)));
        let left = ordered
            .iter()
            .flat_map(|s| (s.len..s.len + tail).map(move |at| (*s, at)));
        let left = left.map(|(segment, at)| seen(segment, at));
        let over = carried
            .iter()
            .flat_map(|row| (0..tail).map(move |at| 1 + row * tail + at));
        let tails = indices(left.chain(over));
        let own = ordered.iter().map(|s| {
            let old = old_row(s.slot).map_or(-1, dim);
            [dim(s.start), dim(s.len), old]
        });
        let waiting = carried.iter().map(|&row| [0, 0, dim(row)]);
        let table: Vec<i32> = own.chain(waiting).flatten().collect();
        let counts = [dim(total), dim(kept.len() * tail), 0, 0, 0, 0, 0, 0];
        Self {
            groups,
            carried,
            order,
            back,
            seen: seen_by_taps,
            tails,
            counts: Array::from_slice(&counts, &[8]),
            segments: Array::from_slice(&table, &[dim(table.len())]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(of: &[(usize, usize)]) -> Vec<BatchSegment> {
        let mut start = 0;
        let segment = |&(slot, len): &(usize, usize)| {
            start += len;
            BatchSegment {
                slot: SlotId(slot),
                start: start - len,
                len,
            }
        };
        of.iter().map(segment).collect()
    }

    fn numbers(array: &Array) -> Vec<i32> {
        array.as_slice::<i32>().to_vec()
    }

    #[test]
    fn neighbouring_pages_are_read_as_one() {
        assert_eq!(runs(&[3, 4, 7], PAGE), [(3 * PAGE, 4 * PAGE)]);
        assert_eq!(
            runs(&[3, 4, 7], 2 * PAGE + 1),
            [(3 * PAGE, 5 * PAGE), (7 * PAGE, 7 * PAGE + 1)]
        );
    }

    #[test]
    fn decoding_takes_every_row_where_it_lies() {
        let kept = [Some(SlotId(2)), Some(SlotId(0))];
        let plan = Recurrent::new(&segments(&[(2, 1), (0, 1)]), &kept, 3);
        assert_eq!(plan.groups.len(), 1);
        assert!(plan.groups[0].rows.is_none());
        assert_eq!(plan.groups[0].members, [Some(0), Some(1)]);
        assert_eq!((plan.order, plan.carried), (kept.to_vec(), vec![]));
        // A zero row, two tails of two rows, the batch: the oldest tap sees each tail's first row.
        assert_eq!(numbers(&plan.seen), [1, 3, 2, 4, 5, 6]);
        assert_eq!(numbers(&plan.segments), [0, 1, 0, 1, 1, 1]);
        assert_eq!(numbers(&plan.tails), [2, 5, 4, 6]);
    }

    #[test]
    fn who_begins_sees_zeros_and_who_waits_is_taken_along() {
        let kept = [Some(SlotId(5)), None, Some(SlotId(1))];
        let plan = Recurrent::new(&segments(&[(1, 1), (7, 3)]), &kept, 2);
        assert_eq!(plan.order, [1, 7, 5].map(|slot| Some(SlotId(slot))));
        assert_eq!(plan.carried, [0]);
        assert_eq!(plan.groups[0].members, [Some(2)]);
        assert_eq!(plan.groups[1].members, [None]);
        assert!(plan.back.is_none());
        assert_eq!(numbers(plan.groups[1].rows.as_ref().unwrap()), [1, 2, 3]);
        assert_eq!(numbers(&plan.seen), [3, 0, 5, 6, 4, 5, 6, 7]);
        assert_eq!(numbers(&plan.segments), [0, 1, 2, 1, 3, -1, 0, 0, 0]);
        assert_eq!(numbers(&plan.tails), [4, 7, 1]);
    }
}
