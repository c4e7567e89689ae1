//! Which cold prefixes there are, in which order they were used, and which of them is evicted next.

use std::collections::{BTreeMap, HashMap};

use super::file::Header;
use super::key::{ColdKey, KeyHasher, ScopeBytes};

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
    children: usize,
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
        let parents: Vec<_> = index
            .entries
            .values()
            .filter_map(|entry| entry.header.parent)
            .collect();
        for (parent, _) in parents {
            if let Some(parent) = index.entries.get_mut(&parent) {
                parent.children += 1;
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
            parent.children += 1;
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
            children: 0,
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

    /// The longest prefix of `tokens` that is here.
    pub(super) fn longest(
        &self,
        fingerprint: &[u8; 32],
        scope: &ScopeBytes,
        tokens: &[u32],
    ) -> Option<ColdKey> {
        let lengths = self.lengths.get(&(*fingerprint, *scope))?;
        let mut hasher = KeyHasher::new(fingerprint, scope);
        let (mut fed, mut longest) = (0, None);
        for &len in lengths.keys().take_while(|len| **len <= tokens.len()) {
            hasher.feed(&tokens[fed..len]);
            fed = len;
            let key = hasher.key();
            longest = self.entries.contains_key(&key).then_some(key).or(longest);
        }
        longest
    }

    /// The prefix to evict: of those that no other continues, the least recently used. Those of `keep` stay.
    pub(super) fn victim(&self, keep: &[ColdKey]) -> Option<ColdKey> {
        let last = |entry: &&IndexEntry| entry.children == 0 && !keep.contains(&entry.header.key);
        let oldest = self.entries.values().filter(last);
        oldest
            .min_by_key(|entry| (entry.used, entry.header.key))
            .map(|entry| entry.header.key)
    }

    /// Removes a prefix and all that continue it; returns their keys.
    pub(super) fn remove(&mut self, key: ColdKey) -> Vec<ColdKey> {
        let mut removed = Vec::new();
        let mut pending = vec![key];
        while let Some(key) = pending.pop() {
            if self.remove_one(key) {
                removed.push(key);
                let continues = |entry: &&IndexEntry| {
                    let parent = entry.header.parent;
                    parent.is_some_and(|(parent, _)| parent == key)
                };
                let entries = self.entries.values().filter(continues);
                pending.extend(entries.map(|entry| entry.header.key));
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

    fn remove_one(&mut self, key: ColdKey) -> bool {
        let Some(IndexEntry { header, .. }) = self.entries.remove(&key) else {
            return false;
        };
        self.bytes -= header.file_bytes();
        if let Some(parent) = header
            .parent
            .and_then(|(key, _)| self.entries.get_mut(&key))
        {
            parent.children -= 1;
        }
        let of = (header.fingerprint, header.scope);
        if let Some(lengths) = self.lengths.get_mut(&of) {
            if let Some(count) = lengths.get_mut(&header.len) {
                *count -= 1;
            }
            lengths.retain(|_, count| *count > 0);
            if lengths.is_empty() {
                self.lengths.remove(&of);
            }
        }
        true
    }
}
