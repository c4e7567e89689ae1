//! Where the keys and values of each sequence lie: pages of a pool that all sequences share.
//!
//! Every attention layer has a pool of rows, one a token, and all pools are laid out alike: so one table serves all
//! layers, a pass writes all its rows at once whatever sequences they belong to, and memory goes to those that are
//! long.

use std::collections::BTreeSet;

use crate::backend::batch::{Segment, SlotId};

/// Tokens in a page.
pub(super) const PAGE: usize = 64;

/// The fewest pages that a pool has or grows by.
const LEAST: usize = 8;

/// Who has which pages.
#[derive(Debug)]
pub struct PageTable {
    sequences: Vec<PagedSequence>,
    free: BTreeSet<usize>,
    /// Pages that the pools have.
    capacity: usize,
}

/// One sequence's pages.
#[derive(Clone, Debug, Default)]
pub struct PagedSequence {
    len: usize,
    pages: Vec<usize>,
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
            sequences: vec![PagedSequence::default(); slots],
            free: BTreeSet::new(),
            capacity: 0,
        }
    }

    /// A sequence's pages.
    pub fn of(&self, slot: SlotId) -> &PagedSequence {
        &self.sequences[slot.0]
    }

    /// Rows that the pools must have.
    pub fn rows(&self) -> usize {
        self.capacity * PAGE
    }

    /// Counts the rows of `segments` and finds room for them.
    pub fn extend(&mut self, segments: &[Segment]) {
        for segment in segments {
            let len = self.sequences[segment.slot.0].len + segment.len;
            while self.sequences[segment.slot.0].pages.len() * PAGE < len {
                let last = self.sequences[segment.slot.0].pages.last().copied();
                let page = self.take(last);
                self.sequences[segment.slot.0].pages.push(page);
            }
            self.sequences[segment.slot.0].len = len;
        }
    }

    /// A free page, the one after `last` if possible: neighbours are read as one.
    fn take(&mut self, last: Option<usize>) -> usize {
        if let Some(next) = last.map(|last| last + 1)
            && self.free.remove(&next)
        {
            return next;
        }
        if self.free.is_empty() {
            let more = (self.capacity / 4).max(LEAST);
            self.free.extend(self.capacity..self.capacity + more);
            self.capacity += more;
            return self.take(last);
        }
        self.free.pop_first().unwrap_or_default()
    }

    /// Frees a sequence's pages. After the last one, the pools need no rows.
    pub fn clear(&mut self, slot: SlotId) {
        let gone = std::mem::take(&mut self.sequences[slot.0]);
        self.free.extend(gone.pages);
        if self.free.len() == self.capacity {
            self.free.clear();
            self.capacity = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grow(table: &mut PageTable, slot: usize, len: usize) {
        let slot = SlotId(slot);
        table.extend(&[Segment {
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
}
