//! Where the keys and values of each sequence lie: pages of a pool that all sequences share.
//!
//! Every attention layer has a pool of rows, one a token, and all pools are laid out alike: so one table serves all
//! layers, a pass writes all its rows at once whatever sequences they belong to, and memory goes to those that are
//! long.

use std::collections::BTreeSet;

use crate::backend::batch::{BatchSegment, SlotId};

/// Tokens in a page.
pub(super) const PAGE: usize = 64;

/// The fewest pages that a pool has or grows by.
const LEAST: usize = 8;

/// Who has which pages. A page may be held by several sequences and snapshots; only the sequence that took it writes to it,
/// behind what the others hold of it.
#[derive(Debug)]
pub struct PageTable {
    sequences: Vec<PagedSequence>,
    free: BTreeSet<usize>,
    /// How many hold each page that the pools have.
    holders: Vec<u32>,
}

/// The pages of one sequence or snapshot. Each is counted in the table's holders.
#[derive(Debug, Default)]
pub struct PagedSequence {
    len: usize,
    pages: Vec<usize>,
}

/// Rows of the pools to be copied, since a sequence continues a page that another one may write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCopy {
    /// The first row.
    pub from: usize,
    /// The first row of the copy.
    pub to: usize,
    /// How many.
    pub count: usize,
}

impl PagedSequence {
    /// Its tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its pages, in order.
    pub fn pages(&self) -> &[usize] {
        &self.pages
    }

    /// The row of the pools that holds a position.
    pub fn place(&self, position: usize) -> usize {
        self.pages[position / PAGE] * PAGE + position % PAGE
    }
}

impl PageTable {
    /// No pages, for so many sequences.
    pub fn new(slots: usize) -> Self {
        Self {
            sequences: std::iter::repeat_with(PagedSequence::default)
                .take(slots)
                .collect(),
            free: BTreeSet::new(),
            holders: Vec::new(),
        }
    }

    /// A sequence's pages.
    pub fn of(&self, slot: SlotId) -> &PagedSequence {
        &self.sequences[slot.0]
    }

    /// Rows that the pools must have.
    pub fn rows(&self) -> usize {
        self.holders.len() * PAGE
    }

    /// Counts the rows of `segments` and finds room for them.
    pub fn extend(&mut self, segments: &[BatchSegment]) {
        for segment in segments {
            let mut sequence = std::mem::take(&mut self.sequences[segment.slot.0]);
            let len = sequence.len + segment.len;
            self.grow(&mut sequence, len);
            self.sequences[segment.slot.0] = sequence;
        }
    }

    /// Finds room for a sequence of `len` tokens.
    pub fn grow(&mut self, sequence: &mut PagedSequence, len: usize) {
        while sequence.pages.len() * PAGE < len {
            let page = self.take(sequence.pages.last().copied());
            sequence.pages.push(page);
        }
        sequence.len = len;
    }

    /// What a sequence has now. The sequence may write behind it in the last page.
    pub fn share(&mut self, slot: SlotId) -> PagedSequence {
        let sequence = &self.sequences[slot.0];
        let pages = sequence.pages.clone();
        pages.iter().for_each(|&page| self.holders[page] += 1);
        PagedSequence {
            len: sequence.len,
            pages,
        }
    }

    /// A sequence that continues `shared`: a last page that is partly filled is another one, to which rows are to be copied.
    pub fn fork(&mut self, shared: &PagedSequence) -> (PagedSequence, Option<RowCopy>) {
        let (full, count) = (shared.len / PAGE, shared.len % PAGE);
        let pages = shared.pages[..full].to_vec();
        pages.iter().for_each(|&page| self.holders[page] += 1);
        let mut forked = PagedSequence {
            len: full * PAGE,
            pages,
        };
        self.grow(&mut forked, shared.len);
        let copy = (count > 0).then(|| RowCopy {
            from: shared.place(full * PAGE),
            to: forked.place(full * PAGE),
            count,
        });
        (forked, copy)
    }

    /// Makes `sequence` that of an empty slot.
    pub fn put(&mut self, slot: SlotId, sequence: PagedSequence) {
        debug_assert!(self.sequences[slot.0].pages.is_empty());
        self.sequences[slot.0] = sequence;
    }

    /// A free page, the one after `last` if possible: neighbours are read as one.
    fn take(&mut self, last: Option<usize>) -> usize {
        if let Some(next) = last.map(|last| last + 1)
            && self.free.remove(&next)
        {
            self.holders[next] = 1;
            return next;
        }
        if self.free.is_empty() {
            let capacity = self.holders.len();
            let more = (capacity / 4).max(LEAST);
            self.free.extend(capacity..capacity + more);
            self.holders.resize(capacity + more, 0);
            return self.take(last);
        }
        let page = self.free.pop_first().unwrap_or_default();
        self.holders[page] = 1;
        page
    }

    /// Frees a sequence's pages that no snapshot holds. After the last one, the pools need no rows.
    pub fn clear(&mut self, slot: SlotId) {
        let gone = std::mem::take(&mut self.sequences[slot.0]);
        self.release(gone);
    }

    /// Frees pages that nothing else holds. After the last one, the pools need no rows.
    pub fn release(&mut self, gone: PagedSequence) {
        for page in gone.pages {
            self.holders[page] -= 1;
            if self.holders[page] == 0 {
                self.free.insert(page);
            }
        }
        if self.free.len() == self.holders.len() {
            self.free.clear();
            self.holders.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grow(table: &mut PageTable, slot: usize, len: usize) {
        let slot = SlotId(slot);
        table.extend(&[BatchSegment {
            slot,
            start: 0,
            len,
        }]);
    }

    #[test]
    fn a_sequence_grows_into_neighbouring_pages() {
        let mut table = PageTable::new(2);
        grow(&mut table, 0, 1);
        grow(&mut table, 0, 3 * PAGE);
        assert_eq!(table.of(SlotId(0)).pages(), [0, 1, 2, 3]);
        assert_eq!(table.of(SlotId(0)).place(PAGE + 5), PAGE + 5);
        assert_eq!(table.rows(), LEAST * PAGE);
    }

    #[test]
    fn pages_are_never_shared_and_come_back() {
        let mut table = PageTable::new(3);
        for round in 1..20 {
            grow(&mut table, round % 3, round * 30);
            let mut all: Vec<_> = (0..3)
                .flat_map(|s| table.of(SlotId(s)).pages().to_vec())
                .collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
            assert!(all.iter().all(|page| page * PAGE < table.rows()));
            table.clear(SlotId((round + 1) % 3));
        }
        (0..3).for_each(|slot| table.clear(SlotId(slot)));
        assert_eq!(table.rows(), 0);
    }

    #[test]
    fn shared_page_is_free_only_after_its_last_holder() {
        let mut table = PageTable::new(2);
        grow(&mut table, 0, PAGE + 10);
        let snapshot = table.share(SlotId(0));
        grow(&mut table, 0, 3);
        assert_eq!(
            (snapshot.len(), table.of(SlotId(0)).len()),
            (PAGE + 10, PAGE + 13)
        );
        table.clear(SlotId(0));
        let (forked, copy) = table.fork(&snapshot);
        assert_eq!(forked.pages()[0], snapshot.pages()[0]);
        assert_ne!(forked.pages()[1], snapshot.pages()[1]);
        let (from, to) = (snapshot.pages()[1] * PAGE, forked.pages()[1] * PAGE);
        let count = 10;
        assert_eq!(copy, Some(RowCopy { from, to, count }));
        table.put(SlotId(1), forked);
        table.release(snapshot);
        // The first page is still held, the second is free again.
        grow(&mut table, 0, 1);
        assert_eq!(table.of(SlotId(0)).pages(), [1]);
        table.clear(SlotId(0));
        table.clear(SlotId(1));
        assert_eq!(table.rows(), 0);
    }

    #[test]
    fn fork_of_full_pages_copies_nothing() {
        let mut table = PageTable::new(1);
        grow(&mut table, 0, 2 * PAGE);
        let snapshot = table.share(SlotId(0));
        let (forked, copy) = table.fork(&snapshot);
        assert_eq!((forked.pages(), copy), (snapshot.pages(), None));
        [snapshot, forked]
            .into_iter()
            .for_each(|held| table.release(held));
        table.clear(SlotId(0));
        assert_eq!(table.rows(), 0);
    }
}
