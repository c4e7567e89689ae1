//! When prefixes move between memory and disk.
//!
//! Snapshots are noted as they are taken and written later, when they have settled: in a conversation that continues, each turn
//! replaces the last one, and only what remains is worth the disk's wear. One thread writes, another one reads. A prompt
//! whose prefix is on disk is restored if reading is estimated to be faster than computing; the estimates are measurements, of
//! the disk and of the engine's own passes.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::reader::PrefixReader;
pub(crate) use self::reader::ReadProgress;
pub(crate) use self::writer::Export;
use self::writer::{Writer, WriterJob};
use crate::prefix::cold::{ColdError, ColdLink, ColdStatus, ColdStore, PromptKeys};
use crate::prefix::options::ColdOptions;
use crate::prefix::scope::Scope;

/// Snapshots that wait to be written. The oldest is dropped when there are more.
const MOST_NOTED: usize = 64;
/// A conversation that never pauses is written once in this time.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes of the largest file: so much memory is taken while one is written, and as much while one is read. Neither is part of
/// the memory for sequences; docs/prefix-cache.md states the sum, "512 MiB for each", and must change with it.
const LARGEST: u64 = 512 << 20;
/// What opening a file takes, in addition to its bytes.
const OPENING: Duration = Duration::from_millis(1);
/// Passes with fewer rows say little about how fast prompts are computed.
const LEAST_ROWS: usize = 16;

/// The cold tier of one engine.
pub(crate) struct ColdTier {
    store: Arc<ColdStore>,
    fingerprint: [u8; 32],
    /// How long a snapshot waits before it is written.
    settle: Duration,
    /// How long nothing is written after an error, before it is tried again.
    retry: Duration,
    /// Whether it matters what is faster.
    estimate: bool,
    noted: VecDeque<Noted>,
    writer: Writer,
    reader: PrefixReader,
    /// Whether nothing is written or read any more, because the writer has ended.
    has_failed: bool,
    /// Tokens of prompts a second; none before the first measurement.
    prefill: Option<f64>,
}

/// A snapshot that will be written.
struct Noted {
    /// The request that it belongs to; later ones have larger numbers.
    request: u64,
    /// Whether prefixes of later requests do not replace it: many conversations share it.
    is_lasting: bool,
    scope: Scope,
    tokens: Vec<u32>,
    /// When it, or one that it replaces, was noted.
    since: Instant,
    /// When it was noted.
    at: Instant,
}

impl ColdTier {
    /// The cold tier in the folder of `options`.
    ///
    /// # Errors
    /// If the folder cannot be used, or the system gives no thread.
    pub(crate) fn open(options: &ColdOptions, fingerprint: [u8; 32]) -> Result<Self, ColdError> {
        let store = ColdStore::open(&options.folder, options.limit_bytes)?;
        let writer = Writer::start(Arc::clone(&store), fingerprint).map_err(ColdError::Thread)?;
        let reader = PrefixReader::start(Arc::clone(&store)).map_err(ColdError::Thread)?;
        let (folder, bytes, prefixes) = (options.folder.display(), store.bytes(), store.len());
        tracing::info!(%folder, bytes, prefixes, "prefixes are kept on disk");
        Ok(Self {
            store,
            fingerprint,
            settle: options.settle,
            retry: options.retry,
            estimate: options.estimate,
            noted: VecDeque::new(),
            writer,
            reader,
            has_failed: false,
            prefill: None,
        })
    }

    /// How the folder's disk fares.
    pub(crate) fn status(&self) -> &Arc<ColdStatus> {
        self.store.status()
    }

    /// Why the tier is not used from now on, once: its writer has ended. None as long as it is used.
    pub(crate) fn failure(&mut self) -> Option<ColdError> {
        if self.has_failed || !self.writer.has_ended() {
            return None;
        }
        self.has_failed = true;
        self.noted.clear();
        self.reader.end();
        Some(ColdError::WriterEnded {
            folder: self.store.path().to_owned(),
        })
    }

    /// Bytes on disk, of all models of the folder.
    pub(crate) fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Notes that a snapshot was taken: the prefix `tokens` of the request with this number. It replaces those of earlier
    /// requests that it continues, unless they are lasting.
    pub(crate) fn note(&mut self, request: u64, is_lasting: bool, scope: Scope, tokens: &[u32]) {
        if self.has_failed {
            return;
        }
        let now = Instant::now();
        if self
            .noted
            .iter()
            .any(|n| n.scope == scope && n.tokens == tokens)
        {
            return;
        }
        let mut since = now;
        self.noted.retain(|noted| {
            let replaced = noted.request < request
                && !noted.is_lasting
                && noted.scope == scope
                && tokens.starts_with(&noted.tokens);
            if replaced {
                since = since.min(noted.since);
            }
            !replaced
        });
        if self.noted.len() >= MOST_NOTED {
            self.noted.pop_front();
        }
        self.noted.push_back(Noted {
            request,
            is_lasting,
            scope,
            tokens: tokens.to_vec(),
            since,
            at: now,
        });
    }

    /// How long until the next snapshot is to be written, or until the writer is asked again whether it is done; none if there is
    /// nothing to write. While files cannot be written: until that is tried again.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        if self.has_failed {
            return None;
        }
        let now = Instant::now();
        if self.writer.is_busy() {
            // Asked again until it is done.
            return Some(Duration::from_millis(20));
        }
        match self.status().tried_ago() {
            Some(ago) => Some(self.retry.saturating_sub(ago)),
            None => self.noted.iter().map(|noted| self.due(noted, now)).min(),
        }
    }

    fn due(&self, noted: &Noted, now: Instant) -> Duration {
        let settled = (noted.at + self.settle).saturating_duration_since(now);
        let longest = (noted.since + LONGEST.max(self.settle)).saturating_duration_since(now);
        settled.min(longest)
    }

    /// The snapshot to write now; none if none is due, a file is being written, or files cannot be written at present. `cost`
    /// gives the bytes of a snapshot with so many tokens behind its parent.
    pub(crate) fn next(&mut self, cost: impl Fn(usize) -> u64) -> Option<Export> {
        if self.has_failed || self.writer.is_busy() {
            return None;
        }
        if let Some(ago) = self.status().tried_ago() {
            if ago >= self.retry {
                self.writer.send(WriterJob::TryAgain);
            }
            return None;
        }
        let now = Instant::now();
        while let Some(at) = self.noted.iter().position(|n| self.due(n, now).is_zero()) {
            let noted = self.noted.remove(at)?;
            let (scope, tokens) = (noted.scope, noted.tokens);
            let chain = self
                .store
                .chain(&self.fingerprint, scope.as_bytes(), &tokens);
            let parent = chain.last().map(|link| (link.key, link.len));
            let from = parent.map_or(0, |(_, len)| len);
            let bytes = cost(tokens.len() - from);
            let is_worth_it = from < tokens.len()
                && bytes <= LARGEST
                && !self.is_useless(bytes, tokens.len() - from);
            if is_worth_it {
                return Some(Export {
                    scope,
                    tokens,
                    from,
                    parent: parent.map(|(key, _)| key),
                });
            }
        }
        None
    }

    /// Writes an exported snapshot, on another thread.
    pub(crate) fn write(&mut self, export: Export, payload: Vec<u8>) {
        self.writer.send(WriterJob::Write(export, payload));
    }

    /// The files to read for a prompt, of which `hot` tokens are in memory, if that is faster than computing: `is_hot` tells
    /// whether a prefix of so many tokens is in memory, to which the first of these files is added. `keys` are those of the prompt,
    /// kept from one call for it to the next.
    pub(crate) fn plan_restore(
        &self,
        scope: Scope,
        prompt: &[u32],
        keys: &mut Option<PromptKeys>,
        hot: usize,
        is_hot: impl Fn(usize) -> bool,
    ) -> Vec<ColdLink> {
        if self.has_failed {
            return Vec::new();
        }
        // A token at least must be computed, for its logits.
        let most = &prompt[..prompt.len().saturating_sub(1)];
        let new = || PromptKeys::new(&self.fingerprint, scope.as_bytes());
        let mut chain = self.store.chain_of(keys.get_or_insert_with(new), most);
        if chain.last().is_none_or(|link| link.len <= hot) {
            return Vec::new();
        }
        let behind = chain.iter().rposition(|link| is_hot(link.len));
        chain.drain(..behind.map_or(0, |at| at + 1));
        let (mut bytes, mut best) = (0, (0.0, 0));
        for (index, link) in chain.iter().enumerate() {
            bytes += link.bytes;
            let saved = match self.prefill.filter(|_| self.estimate) {
                None => link.len as f64,
                Some(_) if link.len <= hot => 0.0,
                Some(speed) => {
                    let reading = self.read_time(bytes, index + 1);
                    (link.len - hot) as f64 / speed - reading.as_secs_f64()
                }
            };
            if saved > best.0 {
                best = (saved, index + 1);
            }
        }
        chain.truncate(best.1);
        chain
    }

    /// Begins to read the files of a plan, on another thread; `tokens` are those of the last one. Returns whether it does: that
    /// thread may still be reading what is no longer wanted.
    pub(crate) fn begin_read(&mut self, links: &[ColdLink], tokens: &[u32]) -> bool {
        self.reader.begin(links, tokens)
    }

    /// What was read next, if it is there within `wait`. A payload is given back with [`ColdTier::used`]: one at a time is in
    /// memory.
    pub(crate) fn next_payload(&mut self, wait: Duration) -> ReadProgress {
        self.reader.next(wait)
    }

    /// Drops the payload that was read last, and reads the next one.
    pub(crate) fn used(&mut self, payload: Vec<u8>) {
        self.reader.used(payload);
    }

    /// What is being read is no longer wanted: that ends at the next block.
    pub(crate) fn end_read(&mut self) {
        self.reader.end();
    }

    /// Whether a prefix is being read, wanted or not.
    pub(crate) fn is_reading(&self) -> bool {
        self.reader.is_busy()
    }

    /// Removes a file whose payload does not fit the model.
    pub(crate) fn refuse(&self, link: &ColdLink, why: &str) {
        tracing::warn!(key = %link.key, "removes a cached prefix that cannot be restored: {why}");
        self.store.forget(link.key);
    }

    /// Removes what may be damaged: the prefixes of `tokens` that have at least `least` tokens, and all that continue them.
    pub(crate) fn forget_from(&mut self, scope: Scope, tokens: &[u32], least: usize) {
        let begin = &tokens[..least];
        self.noted
            .retain(|noted| noted.scope != scope || !noted.tokens.starts_with(begin));
        let (fingerprint, bytes) = (&self.fingerprint, scope.as_bytes());
        self.store.forget_from(fingerprint, bytes, tokens, least);
        // One that is being written is removed once it is there.
        if self.writer.is_busy() {
            self.writer.send(WriterJob::Forget {
                scope,
                tokens: tokens.to_vec(),
                least,
            });
        }
    }

    /// Everything that is noted is due from now on.
    pub(crate) fn settle_now(&mut self) {
        self.settle = Duration::ZERO;
    }

    /// Records how long a pass with so many rows of prompts took.
    pub(crate) fn measured(&mut self, rows: usize, took: Duration) {
        if rows >= LEAST_ROWS {
            let now = rows as f64 / took.as_secs_f64().max(1e-9);
            let mean = self.prefill.unwrap_or(now);
            self.prefill = Some(0.75 * mean + 0.25 * now);
        }
    }

    /// Removes everything of this engine's from the disk.
    pub(crate) fn clear(&mut self) {
        self.noted.clear();
        // A file that is being written would be left.
        while self.writer.is_busy() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.store.clear(&self.fingerprint);
    }

    /// Whether reading a file of so many bytes is so slow beside computing its tokens that it need not be written. What is
    /// measured varies, so a file is left out only if that is clear.
    fn is_useless(&self, bytes: u64, tokens: usize) -> bool {
        const CLEARLY: f64 = 4.0;
        self.prefill.filter(|_| self.estimate).is_some_and(|speed| {
            self.read_time(bytes, 1).as_secs_f64() > CLEARLY * tokens as f64 / speed
        })
    }

    fn read_time(&self, bytes: u64, files: usize) -> Duration {
        self.store.read_time(bytes) + OPENING * u32::try_from(files).unwrap_or(u32::MAX)
    }
}
