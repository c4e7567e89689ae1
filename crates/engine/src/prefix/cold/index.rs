//! Which cold prefixes there are, in which order they were used, and which of them are evicted next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use super::file::Header;
use super::key::{ColdKey, PromptKeys, ScopeBytes};

/// The prefixes of a folder.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<ColdKey, IndexEntry>,
    /// For each fingerprint and scope the lengths that occur, each with its number of prefixes.
    lengths: HashMap<([u8; 32], ScopeBytes), BTreeMap<usize, usize>>,
    bytes: u64,
    clock: u64,
}

#[derive(Debug)]
struct IndexEntry {
    header: Header,
    /// The clock when it was last used.
    used: u64,
    /// Prefixes whose parent it is.
    children: BTreeSet<ColdKey>,
}

impl Index {
    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: ColdKey) -> Option<&Header> {
        self.entries.get(&key).map(|entry| &entry.header)
    }

    /// The prefixes of a folder, in the order of their last use, and the keys of those that cannot be restored, since one
    /// before them is missing.
    pub(super) fn load(headers: Vec<Header>) -> (Self, Vec<ColdKey>) {
        let mut index = Self::default();
        headers.into_iter().for_each(|header| index.add(header));
        let headers = index.entries.values().map(|entry| &entry.header);
        let links: Vec<_> = headers
            .filter_map(|header| Some((header.parent?.0, header.key)))
            .collect();
        for (parent, child) in links {
            if let Some(parent) = index.entries.get_mut(&parent) {
                parent.children.insert(child);
            }
        }
        let orphans = index.remove_orphans();
        (index, orphans)
    }

    /// Adds a prefix that is not here, as the most recently used; its parent is here.
    pub(super) fn insert(&mut self, header: Header) {
        if let Some(parent) = header
            .parent
            .and_then(|(key, _)| self.entries.get_mut(&key))
        {
            parent.children.insert(header.key);
        }
        self.add(header);
    }

    fn add(&mut self, header: Header) {
        let lengths = self.lengths.entry((header.fingerprint, header.scope));
        *lengths.or_default().entry(header.len).or_default() += 1;
        self.bytes += header.file_bytes();
        self.clock += 1;
        let entry = IndexEntry {
            used: self.clock,
            children: BTreeSet::new(),
            header,
        };
        self.entries.insert(entry.header.key, entry);
    }

    /// The keys from the beginning of the conversation to `key`, and marks all of them as used. None if one is missing.
    pub(super) fn chain(&mut self, key: ColdKey) -> Option<Vec<ColdKey>> {
        let mut chain = vec![key];
        while let Some((parent, len)) = self.get(*chain.last()?)?.parent {
            if self.get(parent)?.len != len || chain.len() > self.entries.len() {
                return None;
            }
            chain.push(parent);
        }
        self.clock += 1;
        for key in &chain {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.used = self.clock;
            }
        }
        chain.reverse();
        Some(chain)
    }

    /// The longest prefix of `tokens`, which `keys` are those of, that is here.
    pub(super) fn longest(&self, keys: &mut PromptKeys, tokens: &[u32]) -> Option<ColdKey> {
        self.prefixes(keys, tokens, 0).pop()
    }

    /// The prefixes of `tokens` that are here and have at least `least` tokens, the shortest first.
    pub(super) fn prefixes(
        &self,
        keys: &mut PromptKeys,
        tokens: &[u32],
        least: usize,
    ) -> Vec<ColdKey> {
        let mut found = Vec::new();
        let lengths = self.lengths.get(&(keys.fingerprint, keys.scope));
        for &len in lengths.into_iter().flat_map(BTreeMap::keys) {
            if len > tokens.len() {
                break;
            }
            let key = keys.key(tokens, len);
            if len >= least && self.entries.contains_key(&key) {
                found.push(key);
            }
        }
        found
    }

    /// Removes prefixes until all others take at most `limit` bytes, and returns their keys. Of those that no other one
    /// continues, the least recently used goes first. Those of `keep` stay, so the limit may not be reached.
    pub(super) fn evict(&mut self, limit: u64, keep: &[ColdKey]) -> Vec<ColdKey> {
        if self.bytes <= limit {
            return Vec::new();
        }
        let mut evicted = Vec::new();
        let rank = |entry: &IndexEntry| Reverse((entry.used, entry.header.key));
        let last = self.entries.values().filter(|e| e.children.is_empty());
        // In order once, however many go: a prefix joins them when nothing continues it any more.
        let mut queue: BinaryHeap<_> = last.map(rank).collect();
        while self.bytes > limit
            && let Some(Reverse((_, key))) = queue.pop()
        {
            if keep.contains(&key) {
                continue;
            }
            let parent = self.get(key).and_then(|header| header.parent);
            self.remove_one(key);
            evicted.push(key);
            let parent = parent.and_then(|(parent, _)| self.entries.get(&parent));
            queue.extend(parent.filter(|e| e.children.is_empty()).map(rank));
        }
        evicted
    }

    /// Removes a prefix and all that continue it; returns their keys.
    pub(super) fn remove(&mut self, key: ColdKey) -> Vec<ColdKey> {
        let mut removed = Vec::new();
        let mut pending = vec![key];
        while let Some(key) = pending.pop() {
            if let Some(children) = self.remove_one(key) {
                removed.push(key);
                pending.extend(children);
            }
        }
        removed
    }

    /// Removes all prefixes for which `of` holds, and those that continue them.
    pub(super) fn remove_where(&mut self, of: impl Fn(&Header) -> bool) -> Vec<ColdKey> {
        let entries = self.entries.values().filter(|entry| of(&entry.header));
        let keys: Vec<_> = entries.map(|entry| entry.header.key).collect();
        keys.into_iter().flat_map(|key| self.remove(key)).collect()
    }

    fn remove_orphans(&mut self) -> Vec<ColdKey> {
        let orphan = |entry: &&IndexEntry| {
            let parent = entry.header.parent;
            parent.is_some_and(|(key, len)| {
                self.get(key).is_none_or(|parent| {
                    parent.len != len
                        || (parent.fingerprint, parent.scope)
                            != (entry.header.fingerprint, entry.header.scope)
                })
            })
        };
        let orphans = self.entries.values().filter(orphan);
        let orphans: Vec<_> = orphans.map(|entry| entry.header.key).collect();
        orphans
            .into_iter()
            .flat_map(|key| self.remove(key))
            .collect()
    }

    /// Removes a prefix; returns those that continue it. None if it is not here.
    fn remove_one(&mut self, key: ColdKey) -> Option<BTreeSet<ColdKey>> {
        let entry = self.entries.remove(&key)?;
        let IndexEntry {
            header, children, ..
        } = entry;
        self.bytes -= header.file_bytes();
        if let Some(parent) = header
            .parent
            .and_then(|(key, _)| self.entries.get_mut(&key))
        {
            parent.children.remove(&key);
        }
        let of = (header.fingerprint, header.scope);
        if let Some(lengths) = self.lengths.get_mut(&of) {
            if let Some(count) = lengths.get_mut(&header.len) {
                *count -= 1;
                if *count == 0 {
                    lengths.remove(&header.len);
                }
            }
            if lengths.is_empty() {
                self.lengths.remove(&of);
            }
        }
        Some(children)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample;

    use super::*;

    fn key(number: usize) -> ColdKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        ColdKey(key)
    }

    /// A prefix of `len` tokens, of which the last is behind its parent.
    fn header(number: usize, parent: Option<usize>, len: usize) -> Header {
        let parent = parent.map(|parent| (key(parent), len - 1));
        Header::new((&[1; 32], &[2; 16]), key(number), parent, &[0], b"")
    }

    /// The prefix that goes next, found by looking at all of them.
    fn victim(index: &Index, keep: &[ColdKey]) -> Option<ColdKey> {
        let last =
            |entry: &&IndexEntry| entry.children.is_empty() && !keep.contains(&entry.header.key);
        let oldest = index.entries.values().filter(last);
        oldest
            .min_by_key(|entry| (entry.used, entry.header.key))
            .map(|entry| entry.header.key)
    }

    proptest! {
        #[test]
        fn evicted_prefixes_are_those_that_one_after_the_other_would_be(
            parents in vec(any::<Option<sample::Index>>(), 1..40),
            uses in vec(any::<sample::Index>(), 0..20),
            kept in any::<Option<sample::Index>>(),
            share in 0u64..100,
        ) {
            let mut lens: Vec<usize> = Vec::new();
            let mut headers = Vec::new();
            for (number, parent) in parents.iter().enumerate() {
                let parent = parent.filter(|_| number > 0).map(|parent| parent.index(number));
                let len = parent.map_or(0, |parent| lens[parent]) + 1;
                lens.push(len);
                headers.push(header(number, parent, len));
            }
            let filled = || {
                let (mut index, orphans) = Index::load(headers.clone());
                assert!(orphans.is_empty());
                for used in &uses {
                    index.chain(key(used.index(headers.len())));
                }
                index
            };
            let (mut index, mut expected) = (filled(), filled());
            let kept = kept.map(|kept| key(kept.index(headers.len())));
            let keep = kept.and_then(|kept| index.chain(kept)).unwrap_or_default();
            if let Some(kept) = kept {
                expected.chain(kept);
            }
            let limit = index.bytes() * share / 100;
            let mut victims = Vec::new();
            while expected.bytes() > limit
                && let Some(victim) = victim(&expected, &keep)
            {
                prop_assert_eq!(expected.remove(victim), [victim]);
                victims.push(victim);
            }
            prop_assert_eq!(index.evict(limit, &keep), victims);
            prop_assert_eq!((index.len(), index.bytes()), (expected.len(), expected.bytes()));
            prop_assert!(keep.iter().all(|key| index.get(*key).is_some()));
        }
    }

    /// Each step of work that visited all others would make 10 billion visits of it.
    #[test]
    fn a_hundred_thousand_prefixes_are_evicted_or_removed_at_once() {
        const COUNT: usize = 100_000;
        // One begins half of them; the others are a chain.
        let headers: Vec<_> = (0..COUNT)
            .map(|number| match number {
                0 => header(0, None, 1),
                _ if number < COUNT / 2 => header(number, Some(0), 2),
                _ if number == COUNT / 2 => header(number, None, 1),
                _ => header(number, Some(number - 1), number - COUNT / 2 + 1),
            })
            .collect();
        let filled = || Index::load(headers.clone()).0;
        let mut index = filled();
        assert_eq!(index.evict(0, &[]).len(), COUNT);
        assert_eq!((index.len(), index.bytes()), (0, 0));
        let mut index = filled();
        assert_eq!(index.remove(key(0)).len(), COUNT / 2);
        assert_eq!(index.remove(key(COUNT / 2)).len(), COUNT / 2);
        let mut index = filled();
        assert_eq!(index.remove_where(|_| true).len(), COUNT);
        // Without their beginning they are all removed.
        let rest = headers.iter().filter(|header| header.len > 1);
        let (index, orphans) = Index::load(rest.cloned().collect());
        assert_eq!((index.len(), orphans.len()), (0, COUNT - 2));
    }
}
