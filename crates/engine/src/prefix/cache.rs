//! Snapshots by their tokens, within a number of bytes.

use super::page_counts::PageCounts;
use super::scope::Scope;
use super::tree::{NodeId, PrefixMatch, PrefixTree};
use super::worth::{Clock, Worth};

/// What snapshots take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotCost {
    /// Bytes of each, for its recurrent states.
    pub(crate) fixed: u64,
    /// Bytes of a page, which several may share.
    pub(crate) page: u64,
    /// Tokens in a page.
    pub(crate) page_tokens: usize,
}

/// Snapshots of type `S` by their tokens.
#[derive(Debug)]
pub(crate) struct PrefixCache<S> {
    tree: PrefixTree<CachedSnapshot<S>>,
    pages: PageCounts,
    clock: Clock,
    cost: SnapshotCost,
}

#[derive(Debug)]
struct CachedSnapshot<S> {
    snapshot: S,
    pages: Vec<u64>,
    worth: Worth,
}

impl SnapshotCost {
    /// Bytes of one of so many tokens that shares nothing.
    pub(crate) fn of(&self, tokens: usize) -> u64 {
        let pages = tokens.div_ceil(self.page_tokens.max(1)) as u64;
        self.fixed.saturating_add(self.page.saturating_mul(pages))
    }
}

impl<S> PrefixCache<S> {
    pub(crate) fn new(cost: SnapshotCost) -> Self {
        Self {
            tree: PrefixTree::new(),
            pages: PageCounts::default(),
            clock: Clock::default(),
            cost,
        }
    }

    /// What snapshots take.
    pub(crate) fn cost(&self) -> SnapshotCost {
        self.cost
    }

    /// Bytes of all snapshots, and of the tokens that lead to them.
    pub(crate) fn bytes(&self) -> u64 {
        let states = self.cost.fixed * self.tree.len() as u64;
        let pages = self.cost.page * self.pages.len() as u64;
        states + pages + (self.tree.tokens() * size_of::<u32>()) as u64
    }

    /// The number of snapshots.
    pub(crate) fn len(&self) -> usize {
        self.tree.len()
    }

    /// What begins a prompt; the hit is shorter than the prompt, since its last token must be computed.
    pub(crate) fn find(&self, scope: Scope, prompt: &[u32]) -> PrefixMatch {
        self.tree
            .find(scope, prompt, prompt.len().saturating_sub(1))
    }

    /// Whether there is a snapshot of exactly these tokens.
    pub(crate) fn contains(&self, scope: Scope, tokens: &[u32]) -> bool {
        self.tree.get(scope, tokens).is_some()
    }

    /// The snapshot of exactly these tokens.
    pub(crate) fn get(&self, scope: Scope, tokens: &[u32]) -> Option<&S> {
        let id = self.tree.get(scope, tokens)?;
        self.tree.entry(id).map(|cached| &cached.snapshot)
    }

    /// A snapshot, which is used once more.
    pub(crate) fn used(&mut self, id: NodeId) -> Option<&S> {
        let clock = self.clock;
        let cached = self.tree.entry_mut(id)?;
        clock.touch(&mut cached.worth);
        Some(&cached.snapshot)
    }

    /// Adds a snapshot that holds these pages; returns the one that these tokens had before.
    #[must_use]
    pub(crate) fn insert(
        &mut self,
        scope: Scope,
        tokens: &[u32],
        snapshot: S,
        pages: Vec<u64>,
    ) -> Option<S> {
        self.pages.add(&pages);
        let cached = CachedSnapshot {
            snapshot,
            pages,
            worth: self.clock.begin(),
        };
        let (_, before) = self.tree.insert(scope, tokens, cached);
        before.map(|before| self.released(before))
    }

    /// Removes the snapshot that is worth least.
    #[must_use]
    pub(crate) fn evict(&mut self) -> Option<S> {
        let priorities = self.tree.entries().map(|(id, cached)| {
            let (len, parent) = self.tree.span(id);
            (cached.worth.priority(len - parent, self.freed(id)), id)
        });
        // Of equal ones, the older.
        let (priority, id) = priorities.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))?;
        self.clock.evicted(priority);
        let cached = self.tree.remove(id)?;
        Some(self.released(cached))
    }

    /// Removes the snapshot of exactly these tokens.
    #[must_use]
    pub(crate) fn remove(&mut self, scope: Scope, tokens: &[u32]) -> Option<S> {
        let id = self.tree.get(scope, tokens)?;
        let cached = self.tree.remove(id)?;
        Some(self.released(cached))
    }

    /// Removes all snapshots that begin with these tokens.
    #[must_use]
    pub(crate) fn remove_from(&mut self, scope: Scope, tokens: &[u32]) -> Vec<S> {
        let mut removed = Vec::new();
        for id in self.tree.beginning_with(scope, tokens) {
            if let Some(cached) = self.tree.remove(id) {
                removed.push(self.released(cached));
            }
        }
        removed
    }

    /// Removes all snapshots.
    #[must_use]
    pub(crate) fn clear(&mut self) -> Vec<S> {
        self.pages.clear();
        let all = self.tree.clear().into_iter();
        all.map(|cached| cached.snapshot).collect()
    }

    /// Bytes that an eviction frees, in general: pages that others begin with stay.
    fn freed(&self, id: NodeId) -> u64 {
        let (len, parent) = self.tree.span(id);
        match self.tree.is_begun(id) {
            true => self.cost.fixed,
            false => {
                let pages = (len - parent).div_ceil(self.cost.page_tokens.max(1)) as u64;
                self.cost.fixed + self.cost.page * pages
            }
        }
    }

    fn released(&mut self, cached: CachedSnapshot<S>) -> S {
        self.pages.remove(&cached.pages);
        cached.snapshot
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const COST: SnapshotCost = SnapshotCost {
        fixed: 1000,
        page: 64,
        page_tokens: 2,
    };

    /// The pages of a sequence that shares whole pages with all that begin alike.
    fn pages(tokens: &[u32], number: u64) -> Vec<u64> {
        let whole = tokens.chunks(2).enumerate().map(|(at, page)| {
            let before = tokens[..at * 2 + page.len()].iter();
            let all = before.fold(1_u64, |hash, &token| {
                hash.wrapping_mul(61).wrapping_add(token.into())
            });
            match page.len() {
                2 => all,
                _ => u64::MAX - number,
            }
        });
        whole.collect()
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_different_pages_and_of_snapshots(
            steps in vec((vec(0..3_u32, 0..8), any::<bool>()), 1..40),
        ) {
            let mut cache = PrefixCache::new(COST);
            let mut held: HashMap<u64, (Vec<u32>, Vec<u64>)> = HashMap::new();
            for (number, (tokens, evict)) in steps.into_iter().enumerate() {
                let number = number as u64;
                if evict {
                    let evicted = cache.evict();
                    prop_assert_eq!(evicted.is_some(), !held.is_empty());
                    evicted.map(|number| held.remove(&number));
                } else {
                    let pages = pages(&tokens, number);
                    if let Some(before) = cache.insert(Scope::default(), &tokens, number, pages.clone()) {
                        prop_assert_eq!(held.remove(&before).map(|before| before.0), Some(tokens.clone()));
                    }
                    held.insert(number, (tokens, pages));
                }
                let different: HashSet<u64> = held.values().flat_map(|held| held.1.iter().copied()).collect();
                let prefixes: HashSet<&[u32]> = held
                    .values()
                    .flat_map(|held| (1..=held.0.len()).map(|len| &held.0[..len]))
                    .collect();
                let expected = 1000 * held.len() + 64 * different.len() + 4 * prefixes.len();
                prop_assert_eq!((cache.len(), cache.bytes()), (held.len(), expected as u64));
            }
            prop_assert_eq!(cache.clear().len(), held.len());
            prop_assert_eq!(cache.bytes(), 0);
        }
    }

    fn filled(sequences: &[&[u32]]) -> PrefixCache<usize> {
        let mut cache = PrefixCache::new(COST);
        for (number, tokens) in sequences.iter().enumerate() {
            let pages = pages(tokens, number as u64);
            assert_eq!(cache.insert(Scope::default(), tokens, number, pages), None);
        }
        cache
    }

    #[test]
    fn snapshot_that_saves_fewest_tokens_is_evicted_first() {
        let long: Vec<u32> = (0..50).collect();
        let mut cache = filled(&[&long, &[7, 8], &[7, 8, 9, 10, 11, 12, 13, 14]]);
        assert_eq!(cache.evict(), Some(1));
        assert_eq!(cache.evict(), Some(2));
        assert_eq!(cache.evict(), Some(0));
        assert_eq!(cache.evict(), None);
    }

    #[test]
    fn snapshot_in_use_is_kept_longer() {
        let mut cache = filled(&[&[1, 2, 3, 4], &[5, 6, 7, 8]]);
        let hit = cache.find(Scope::default(), &[1, 2, 3, 4, 5]).hit;
        let (id, len) = hit.unwrap();
        assert_eq!((cache.used(id), len), (Some(&0), 4));
        assert_eq!(cache.evict(), Some(1));
    }

    #[test]
    fn snapshots_that_begin_with_tokens_are_removed_with_their_pages() {
        let all: [&[u32]; 6] = [
            &[1, 2],
            &[1, 2, 3, 4],
            &[1, 2, 3, 4, 5, 6],
            &[1, 2, 3, 9],
            &[1, 2, 7],
            &[3],
        ];
        let removed = |tokens: &[u32]| {
            let mut cache = filled(&all);
            let other = cache.remove_from(Scope::of(&[b"other"]), tokens);
            assert_eq!(other, [0; 0]);
            let mut removed = cache.remove_from(Scope::default(), tokens);
            removed.sort_unstable();
            let left = all.iter().filter(|other| !other.starts_with(tokens));
            let left: Vec<&[u32]> = left.copied().collect();
            assert_eq!(cache.bytes(), filled(&left).bytes());
            removed
        };
        assert_eq!(removed(&[1, 2, 3, 4]), [1, 2]);
        // Where no snapshot ends, or within an edge.
        assert_eq!(removed(&[1, 2, 3]), [1, 2, 3]);
        assert_eq!(removed(&[1, 2, 3, 4, 5]), [2]);
        assert_eq!(removed(&[]), [0, 1, 2, 3, 4, 5]);
        for absent in [&[1, 3][..], &[2], &[1, 2, 3, 4, 6], &[3, 3]] {
            assert_eq!(removed(absent), [0; 0]);
        }
    }

    #[test]
    fn removed_snapshot_leaves_those_that_begin_with_it() {
        let mut cache = filled(&[&[1, 2], &[1, 2, 3, 4]]);
        assert_eq!(cache.remove(Scope::default(), &[1, 2]), Some(0));
        assert_eq!(cache.remove(Scope::default(), &[1, 2]), None);
        let hit = cache.find(Scope::default(), &[1, 2, 3, 4, 5]).hit;
        assert_eq!(hit.map(|(_, len)| len), Some(4));
        assert_eq!(cache.bytes(), filled(&[&[1, 2, 3, 4]]).bytes());
    }

    #[test]
    fn hit_is_shorter_than_the_prompt() {
        let cache = filled(&[&[1, 2], &[1, 2, 3, 4]]);
        let found = cache.find(Scope::default(), &[1, 2, 3, 4]);
        assert_eq!((found.hit.unwrap().1, found.known), (2, 4));
        assert!(cache.contains(Scope::default(), &[1, 2, 3, 4]));
        assert!(!cache.contains(Scope::default(), &[1, 2, 3]));
        assert_eq!(cache.find(Scope::default(), &[]).hit, None);
    }
}
