//! When prefixes move between memory and disk.
//!
//! Snapshots are noted as they are taken and written later, when they have settled: in a conversation that continues, each turn
//! replaces the last one, and only what remains is worth the disk's wear. They are written by a thread of their own. A prompt
//! whose prefix is on disk is restored if reading is estimated to be faster than computing; the estimates are measurements, of
//! the disk and of the engine's own passes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::prefix::cold::{ColdKey, ColdLink, ColdStore, KeyHasher, NewPrefix};
use crate::prefix::options::ColdOptions;
use crate::prefix::scope::Scope;

/// Snapshots that wait to be written. The oldest is dropped when there are more.
const MOST_NOTED: usize = 64;
/// A conversation that never pauses is written once in this time.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes of the largest file: so much memory is taken while it is written.
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
    /// Whether it matters what is faster.
    estimate: bool,
    noted: VecDeque<Noted>,
    writer: Writer,
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

/// A snapshot to be exported and written now.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) scope: Scope,
    /// All of its tokens.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of the file that it continues.
    pub(crate) from: usize,
    parent: Option<ColdKey>,
}

/// The thread that writes.
struct Writer {
    jobs: Option<Sender<(Export, Vec<u8>)>>,
    /// Whether a file is being written.
    is_busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ColdTier {
    /// The cold tier in the folder of `options`; none if it cannot be used, which is logged: the engine serves without it.
    pub(crate) fn open(options: &ColdOptions, fingerprint: [u8; 32]) -> Option<Self> {
        let store = ColdStore::open(&options.folder, options.limit_bytes)
            .inspect_err(|error| tracing::error!("{error}; prefixes are kept in memory only"))
            .ok()?;
        let writer = Writer::start(Arc::clone(&store), fingerprint)
            .inspect_err(|error| {
                tracing::error!(
                    "no thread for the cache folder: {error}; prefixes are kept in memory only"
                );
            })
            .ok()?;
        let (folder, bytes, prefixes) = (options.folder.display(), store.bytes(), store.len());
        tracing::info!(%folder, bytes, prefixes, "prefixes are kept on disk");
        Some(Self {
            store,
            fingerprint,
            settle: options.settle,
            estimate: options.estimate,
            noted: VecDeque::new(),
            writer,
            prefill: None,
        })
    }

    /// Bytes on disk, of all models of the folder.
    pub(crate) fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Notes that a snapshot was taken: the prefix `tokens` of the request with this number. It replaces those of earlier
    /// requests that it continues, unless they are lasting.
    pub(crate) fn note(&mut self, request: u64, is_lasting: bool, scope: Scope, tokens: &[u32]) {
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

    /// How long until the next snapshot is to be written; none if none is noted.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        let now = Instant::now();
        let due = self.noted.iter().map(|noted| self.due(noted, now));
        due.min().map(|due| match self.writer.is_busy() {
            // Asked again until it is free.
            true => due.max(Duration::from_millis(20)),
            false => due,
        })
    }

    fn due(&self, noted: &Noted, now: Instant) -> Duration {
        let settled = (noted.at + self.settle).saturating_duration_since(now);
        let longest = (noted.since + LONGEST.max(self.settle)).saturating_duration_since(now);
        settled.min(longest)
    }

    /// The snapshot to write now; none if none is due or a file is being written. `cost` gives the bytes of a snapshot with so
    /// many tokens behind its parent.
    pub(crate) fn next(&mut self, cost: impl Fn(usize) -> u64) -> Option<Export> {
        if self.writer.is_busy() {
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
        self.writer.send(export, payload);
    }

    /// The files to read for a prompt, of which `hot` tokens are in memory, if that is faster than computing: `is_hot` tells
    /// whether a prefix of so many tokens is in memory, to which the first of these files is added.
    pub(crate) fn plan_restore(
        &self,
        scope: Scope,
        prompt: &[u32],
        hot: usize,
        is_hot: impl Fn(usize) -> bool,
    ) -> Vec<ColdLink> {
        // A token at least must be computed, for its logits.
        let most = &prompt[..prompt.len().saturating_sub(1)];
        let mut chain = self.store.chain(&self.fingerprint, scope.as_bytes(), most);
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

    /// The payload of a file of the plan; none if it cannot be used.
    pub(crate) fn read(&self, link: &ColdLink, prompt: &[u32]) -> Option<Vec<u8>> {
        self.store.read(link.key, &prompt[..link.len])
    }

    /// Removes a file whose payload does not fit the model.
    pub(crate) fn refuse(&self, link: &ColdLink, why: &str) {
        tracing::warn!(key = %link.key, "removes a cached prefix that cannot be restored: {why}");
        self.store.forget(link.key);
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

impl Writer {
    fn start(store: Arc<ColdStore>, fingerprint: [u8; 32]) -> std::io::Result<Self> {
        let (jobs, inbox) = channel::<(Export, Vec<u8>)>();
        let is_busy = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_busy);
        let write = move || {
            let mut has_failed = false;
            while let Ok((export, payload)) = inbox.recv() {
                let result = write(&store, &fingerprint, &export, &payload);
                // A disk that is full fails for each of them.
                if let Err(error) = &result
                    && !has_failed
                {
                    tracing::error!(
                        "{error}; prefixes are not written to disk until this is fixed"
                    );
                }
                has_failed = result.is_err();
                busy.store(false, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new()
            .name("prefix-writer".into())
            .spawn(write)?;
        Ok(Self {
            jobs: Some(jobs),
            is_busy,
            thread: Some(thread),
        })
    }

    fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    fn send(&self, export: Export, payload: Vec<u8>) {
        self.is_busy.store(true, Ordering::Release);
        if let Some(jobs) = &self.jobs {
            // The thread runs as long as this sender exists.
            let _ = jobs.send((export, payload));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported already.
            let _ = thread.join();
        }
    }
}

fn write(
    store: &ColdStore,
    fingerprint: &[u8; 32],
    export: &Export,
    payload: &[u8],
) -> Result<bool, crate::prefix::cold::ColdError> {
    let mut hasher = KeyHasher::new(fingerprint, export.scope.as_bytes());
    hasher.feed(&export.tokens);
    store.write(&NewPrefix {
        fingerprint,
        scope: export.scope.as_bytes(),
        key: hasher.key(),
        parent: export.parent.map(|key| (key, export.from)),
        tokens: &export.tokens[export.from..],
        payload,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    fn tier(folder: &TempDir, settle: Duration) -> ColdTier {
        let options = ColdOptions {
            folder: folder.path().to_owned(),
            limit_bytes: 1 << 20,
            settle,
            estimate: true,
        };
        ColdTier::open(&options, [5; 32]).unwrap()
    }

    fn tokens(len: usize) -> Vec<u32> {
        (0..len as u32).collect()
    }

    /// Writes all that is due; gives each one's parent and length.
    fn written(tier: &mut ColdTier) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        while tier
            .due_in()
            .is_some_and(|due| due <= Duration::from_millis(20))
        {
            if let Some(export) = tier.next(|tokens| tokens as u64) {
                all.push((export.from, export.tokens.len()));
                let payload = vec![export.tokens.len() as u8; 10];
                tier.write(export, payload);
            }
            std::thread::yield_now();
        }
        while tier.writer.is_busy() {
            std::thread::yield_now();
        }
        all
    }

    fn plan(tier: &ColdTier, prompt: usize, hot: &[usize]) -> Vec<usize> {
        let longest = hot.iter().copied().max().unwrap_or(0);
        let links = tier.plan_restore(Scope::default(), &tokens(prompt), longest, |len| {
            hot.contains(&len)
        });
        links.iter().map(|link| link.len).collect()
    }

    #[test]
    fn noted_prefixes_are_written_as_a_chain_and_planned_behind_what_is_hot() {
        let folder = folder();
        let mut tier = tier(&folder, Duration::ZERO);
        for len in [10, 30, 20, 10] {
            tier.note(1, false, Scope::default(), &tokens(len));
        }
        // 20 is written after 30, and so continues 10.
        assert_eq!(written(&mut tier), [(0, 10), (10, 30), (10, 20)]);
        assert!(tier.due_in().is_none());
        assert_eq!(plan(&tier, 100, &[]), [10, 30]);
        assert_eq!(plan(&tier, 31, &[]), [10, 30]);
        assert_eq!(plan(&tier, 30, &[]), [10, 20], "a token is left to compute");
        assert_eq!(plan(&tier, 100, &[10]), [30]);
        assert_eq!(plan(&tier, 100, &[25]), [10, 30]);
        assert_eq!(plan(&tier, 100, &[30]), [0; 0]);
        assert_eq!(plan(&tier, 100, &[50]), [0; 0]);
        let link = tier.plan_restore(Scope::default(), &tokens(100), 0, |_| false)[1];
        assert_eq!(tier.read(&link, &tokens(100)), Some(vec![30; 10]));
        // What is there already is not written again.
        tier.note(2, false, Scope::default(), &tokens(30));
        assert_eq!(written(&mut tier), []);
        tier.refuse(&link, "test");
        assert_eq!(plan(&tier, 100, &[]), [10, 20]);
        tier.clear();
        assert_eq!((plan(&tier, 100, &[]), tier.bytes()), (vec![], 0));
    }

    #[test]
    fn later_turn_replaces_earlier_ones_but_not_lasting_ones() {
        let folder = folder();
        let mut tier = tier(&folder, Duration::from_secs(3600));
        let note = |tier: &mut ColdTier, request, lasting, len| {
            tier.note(request, lasting, Scope::default(), &tokens(len));
        };
        note(&mut tier, 1, true, 10);
        note(&mut tier, 1, false, 20);
        note(&mut tier, 1, false, 30);
        note(&mut tier, 2, false, 25);
        tier.note(3, false, Scope::of(&[b"other"]), &tokens(40));
        let lens = |tier: &ColdTier| {
            tier.noted
                .iter()
                .map(|n| n.tokens.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(lens(&tier), [10, 30, 25, 40]);
        assert!(tier.due_in().unwrap() > Duration::from_secs(30));
        assert!(tier.next(|_| 0).is_none());
        // A conversation that never pauses is written after a while.
        // It inherits the time of the first one that was replaced.
        let first = tier.noted[2].since;
        note(&mut tier, 4, false, 50);
        assert_eq!(lens(&tier), [10, 40, 50]);
        assert_eq!(tier.noted[2].since, first);
    }

    #[test]
    fn what_is_computed_faster_than_read_is_neither_written_nor_read() {
        let folder = folder();
        let mut tier = tier(&folder, Duration::ZERO);
        tier.note(1, false, Scope::default(), &tokens(10));
        tier.note(1, false, Scope::default(), &tokens(1000));
        assert_eq!(written(&mut tier), [(0, 10), (10, 1000)]);
        // Opening a file takes as long as 100,000 of these tokens.
        tier.measured(100, Duration::from_micros(1));
        assert_eq!(plan(&tier, 2000, &[]), [0; 0]);
        tier.note(1, false, Scope::default(), &tokens(1500));
        assert_eq!(written(&mut tier), []);
        for _ in 0..40 {
            tier.measured(100, Duration::from_millis(100));
        }
        assert_eq!(plan(&tier, 2000, &[]), [10, 1000]);
        tier.note(1, false, Scope::default(), &tokens(1500));
        assert_eq!(written(&mut tier), [(1000, 1500)]);
        // Few rows are no measurement.
        tier.measured(1, Duration::from_nanos(1));
        assert_eq!(plan(&tier, 2000, &[]), [10, 1000, 1500]);
    }

    #[test]
    fn folder_that_cannot_be_used_is_no_cold_tier() {
        let folder = folder();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = ColdOptions {
            folder: folder.path().to_owned(),
            limit_bytes: 1 << 20,
            settle: Duration::ZERO,
            estimate: true,
        };
        assert!(ColdTier::open(&options, [5; 32]).is_none());
    }
}
