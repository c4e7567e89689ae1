//! How many snapshots hold each page: a page that several share takes memory once.

use std::collections::HashMap;

/// How many snapshots hold each page.
#[derive(Debug, Default)]
pub(crate) struct PageCounts(HashMap<u64, u32>);

impl PageCounts {
    /// The number of different pages.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Counts a snapshot's pages.
    pub(crate) fn add(&mut self, pages: &[u64]) {
        for &page in pages {
            *self.0.entry(page).or_default() += 1;
        }
    }

    /// The same pages are held by one less.
    pub(crate) fn remove(&mut self, pages: &[u64]) {
        for page in pages {
            if let Some(count) = self.0.get_mut(page) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(page);
                }
            }
        }
    }

    /// Nothing is held.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
