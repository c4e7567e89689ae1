//! Prefixes that are read from disk for a request that waits. A thread reads and checks the files; between two passes the engine's
//! thread makes a snapshot of what was read. Other requests are computed meanwhile.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{ColdRestore, PrefixReuse};
use crate::backend::Backend;
use crate::prefix::cold::{ColdLink, PromptKeys};
use crate::prefix::cold_tier::{ColdTier, ReadProgress};
use crate::prefix::scope::{Reuse, Scope};
use crate::schedule::request::Request;

/// A disk that gives nothing for so long is not waited for any longer.
const DISK_LIMIT: Duration = Duration::from_secs(30);
/// A cancelled read ends within a block. One that takes longer is not waited for.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// What a waiting request has asked of the disk.
#[derive(Default)]
pub(crate) struct DiskWait {
    /// Whether a prefix was, or is being, read for it.
    was_begun: bool,
    /// The keys of its prompt, from the first lookup on: it is looked up before each pass while another prefix is read.
    keys: Option<PromptKeys>,
}

impl<B: Backend> PrefixReuse<B> {
    /// Whether a request should go on waiting, for a prefix that is being read from disk. Begins to read the one of its prompt if
    /// that is faster than computing it and memory holds it; `wait` is what this request has asked of the disk.
    pub(crate) fn waits_for_disk(
        &mut self,
        backend: &B,
        slots: &mut B::Slots,
        scope: Scope,
        prompt: &[u32],
        wait: &mut DiskWait,
    ) -> bool {
        if let Some(restore) = &self.restore
            && restore.scope == scope
            && prompt.starts_with(&restore.tokens)
        {
            return true;
        }
        if wait.was_begun {
            return false;
        }
        let is_ending = self.cancelled.is_some_and(|at| at.elapsed() < CANCEL_LIMIT);
        let links = self.plan_restore(scope, prompt, &mut wait.keys);
        let (Some(first), Some(last)) = (links.first(), links.last()) else {
            return false;
        };
        let is_reading = self.cold.as_ref().is_some_and(ColdTier::is_reading);
        if self.restore.is_some() || (is_ending && is_reading) {
            // One prefix at a time is read.
            return true;
        }
        wait.was_begun = true;
        // The states of two are in memory while one continues the other.
        let cost = self.cache.cost();
        let needed = cost.of(last.len).saturating_add(cost.fixed);
        let room = self.room(0);
        if needed > room {
            return false;
        }
        self.shrink_to(room - needed, backend, slots);
        if first.from > 0 && !self.cache.contains(scope, &prompt[..first.from]) {
            return false;
        }
        let tokens = &prompt[..last.len];
        let cold = self.cold.as_mut();
        if !cold.is_some_and(|cold| cold.begin_read(&links, tokens)) {
            return false;
        }
        let now = Instant::now();
        self.restore = Some(ColdRestore {
            scope,
            tokens: tokens.to_vec(),
            links: links.into(),
            restored: 0,
            begun: now,
            moved: now,
        });
        true
    }

    /// Whether a prefix is being read from disk.
    pub(crate) fn is_restoring(&self) -> bool {
        self.restore.is_some()
    }

    /// Makes a snapshot of the file that was read next, and waits for it for `wait` at most.
    pub(crate) fn continue_restore(&mut self, backend: &B, slots: &mut B::Slots, wait: Duration) {
        let (Some(restore), Some(cold)) = (&mut self.restore, &mut self.cold) else {
            return;
        };
        let continues = match cold.next_payload(wait) {
            ReadProgress::Reading => {
                let is_late = restore.moved.elapsed() >= DISK_LIMIT
                    || restore.begun.elapsed() >= 4 * DISK_LIMIT;
                if is_late {
                    let seconds = DISK_LIMIT.as_secs();
                    tracing::warn!(
                        "the disk of the cache folder has given nothing for {seconds} s; the prefix is computed. Check the disk"
                    );
                }
                !is_late
            }
            ReadProgress::Payload(payload) => {
                restore.moved = Instant::now();
                let continues = self.import_next(backend, slots, &payload);
                if let Some(cold) = &mut self.cold {
                    cold.used(payload);
                }
                continues
            }
            ReadProgress::Done => false,
        };
        if !continues {
            self.end_restore();
        }
    }

    /// Ends the present restore if none of these requests, which still wait, begins with its prefix: its request was cancelled.
    pub(crate) fn end_unwanted_restore<'a>(
        &mut self,
        mut waiting: impl Iterator<Item = &'a Request>,
    ) {
        let Some(restore) = &self.restore else { return };
        let is_wanted = waiting.any(|request| {
            matches!(request.reuse, Reuse::Scope(scope) if scope == restore.scope)
                && request.prompt.starts_with(&restore.tokens)
        });
        if !is_wanted {
            self.cancel_restore();
        }
    }

    /// Ends the present restore, if there is one, before it is complete: its request has left.
    pub(super) fn cancel_restore(&mut self) {
        if self.restore.is_some() {
            self.cancelled = Some(Instant::now());
            self.end_restore();
        }
    }

    /// Reads no more for the present prompt. What was restored of it stays in memory.
    fn end_restore(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.end_read();
        }
        if let Some(restore) = self.restore.take()
            && restore.restored > 0
        {
            let stats = &self.shared.stats;
            stats.prefix_restores.fetch_add(1, Relaxed);
            let took = restore.begun.elapsed().as_micros() as u64;
            stats.prefix_restore_us.fetch_add(took, Relaxed);
        }
    }

    /// The files to read for a prompt, if that is faster than computing.
    fn plan_restore(
        &self,
        scope: Scope,
        prompt: &[u32],
        keys: &mut Option<PromptKeys>,
    ) -> Vec<ColdLink> {
        let Some(cold) = &self.cold else {
            return Vec::new();
        };
        let hot = self.cache.find(scope, prompt).hit.map_or(0, |hit| hit.1);
        let is_hot = |len: usize| self.cache.contains(scope, &prompt[..len]);
        cold.plan_restore(scope, prompt, keys, hot, is_hot)
    }

    /// Adds the snapshot of the next file; returns whether there may be another one.
    fn import_next(&mut self, backend: &B, slots: &mut B::Slots, payload: &[u8]) -> bool {
        let next = self.restore.as_mut().and_then(|restore| {
            let link = restore.links.pop_front()?;
            Some((link, restore.scope, restore.tokens[..link.len].to_vec()))
        });
        let Some((link, scope, tokens)) = next else {
            return false;
        };
        let cost = self.cache.cost();
        let pages = cost.of(link.len).saturating_sub(cost.of(link.from));
        let needed = pages.saturating_add(cost.fixed);
        let room = self.room(0);
        if needed > room {
            return false;
        }
        self.shrink_to(room - needed, backend, slots);
        let parent = self.cache.get(scope, &tokens[..link.from]);
        if link.from > 0 && parent.is_none() {
            // Evicted meanwhile.
            return false;
        }
        let snapshot = match backend.import(slots, parent, payload) {
            Ok(snapshot) => snapshot,
            Err(why) => {
                if let Some(cold) = &self.cold {
                    cold.refuse(&link, &why);
                }
                return false;
            }
        };
        self.insert(backend, slots, scope, &tokens, snapshot);
        self.shared.heartbeat.beat();
        if let Some(restore) = &mut self.restore {
            let before = std::mem::replace(&mut restore.restored, link.len);
            // It was restored for this one alone.
            if before > 0
                && let Some(snapshot) = self.cache.remove(scope, &tokens[..before])
            {
                backend.release(slots, snapshot);
            }
        }
        self.report();
        true
    }
}
