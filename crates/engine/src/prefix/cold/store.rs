//! The cold prefixes of a folder: found, read, written, evicted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sanctum_config::Digest;

use super::error::ColdError;
use super::file::{self, BadFile, Header};
use super::folder::ColdFolder;
use super::index::Index;
use super::key::{ColdKey, PromptKeys, ScopeBytes};
use super::status::ColdStatus;

/// Bytes that are written at the start to measure the disk.
const PROBE: usize = 8 << 20;
/// Bytes a second of a disk that cannot be measured.
const SLOW: u64 = 100 << 20;

/// The cold prefixes of a folder.
#[derive(Debug)]
pub(crate) struct ColdStore {
    folder: ColdFolder,
    /// Bytes that all files may take together.
    limit: u64,
    index: Mutex<Index>,
    /// Held while files are written or removed to make room: one thread at a time changes the folder.
    writing: Mutex<()>,
    /// Bytes a second, from the last measurements.
    speed: AtomicU64,
    /// Bytes of all files, readable without a lock.
    bytes: AtomicU64,
}

/// One file of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColdLink {
    pub(crate) key: ColdKey,
    /// Tokens of its parent.
    pub(crate) from: usize,
    /// Tokens of its prefix.
    pub(crate) len: usize,
    /// Bytes of its file.
    pub(crate) bytes: u64,
}

/// A prefix to be written.
#[derive(Debug)]
pub(crate) struct NewPrefix<'a> {
    pub(crate) fingerprint: &'a [u8; 32],
    pub(crate) scope: &'a ScopeBytes,
    pub(crate) key: ColdKey,
    /// The prefix that it continues, and its tokens; it must be in the store.
    pub(crate) parent: Option<(ColdKey, usize)>,
    /// Its tokens behind the parent.
    pub(crate) tokens: &'a [u32],
    pub(crate) payload: &'a [u8],
}

/// A store of this process, and its folder as it was named and without symbolic links.
struct OpenStore {
    named: PathBuf,
    real: Option<PathBuf>,
    store: Weak<ColdStore>,
}

/// The stores of this process: engines of several models share one folder, and so does an engine with its successor.
static STORES: Mutex<Vec<OpenStore>> = Mutex::new(Vec::new());

impl ColdStore {
    /// The store in `folder`, of at most `limit` bytes. Removes files that are damaged, of another format or beyond the limit,
    /// and measures the disk.
    ///
    /// # Errors
    /// If the folder cannot be used, or another process serves from it.
    pub(crate) fn open(folder: &Path, limit: u64) -> Result<Arc<Self>, ColdError> {
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|open| open.store.strong_count() > 0);
        let real = folder.canonicalize().ok();
        // A folder that is missing at present has its name only.
        let is_same =
            |open: &&OpenStore| open.named == folder || open.real.is_some() && open.real == real;
        let open = stores.iter().find(is_same);
        if let Some(store) = open.and_then(|open| open.store.upgrade()) {
            return Ok(store);
        }
        let store = Arc::new(Self::take(folder, limit)?);
        stores.push(OpenStore {
            named: folder.to_owned(),
            real: folder.canonicalize().ok(),
            store: Arc::downgrade(&store),
        });
        Ok(store)
    }

    fn take(folder: &Path, limit: u64) -> Result<Self, ColdError> {
        let folder = ColdFolder::take(folder)?;
        let index = folder.load();
        let index = index.map_err(|source| ColdError::folder(folder.path(), source))?;
        let speed = measure(&folder);
        let store = Self {
            folder,
            limit,
            index: Mutex::new(index),
            writing: Mutex::new(()),
            speed: AtomicU64::new(*speed.as_ref().unwrap_or(&SLOW)),
            bytes: AtomicU64::new(0),
        };
        store.make_room(0, &[]);
        if let Err(source) = speed {
            let error = ColdError::folder(store.folder.path(), source);
            store.pause(&error, PROBE as u64);
        }
        Ok(store)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// How its disk fares.
    pub(crate) fn status(&self) -> &Arc<ColdStatus> {
        self.folder.status()
    }

    /// Prefixes in the folder.
    pub(crate) fn len(&self) -> usize {
        self.index().len()
    }

    /// Whether a prefix is here.
    pub(crate) fn contains(&self, key: ColdKey) -> bool {
        self.index().get(key).is_some()
    }

    /// How long it takes to read so many bytes.
    pub(crate) fn read_time(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.speed.load(Relaxed).max(1) as f64)
    }

    /// The files of the longest prefix of `tokens` that is here, from the beginning of the conversation on; empty if there is
    /// none. Marks them as used.
    pub(crate) fn chain(
        &self,
        fingerprint: &[u8; 32],
        scope: &ScopeBytes,
        tokens: &[u32],
    ) -> Vec<ColdLink> {
        self.chain_of(&mut PromptKeys::new(fingerprint, scope), tokens)
    }

    /// Like [`ColdStore::chain`], for a prompt that is looked up several times: `keys` are those of `tokens`.
    pub(crate) fn chain_of(&self, keys: &mut PromptKeys, tokens: &[u32]) -> Vec<ColdLink> {
        let mut index = self.index();
        let longest = index.longest(keys, tokens);
        let chain = longest.and_then(|key| index.chain(key));
        let link = |key| {
            index.get(key).map(|header| ColdLink {
                key,
                from: header.from(),
                len: header.len,
                bytes: header.file_bytes(),
            })
        };
        let links: Option<Vec<_>> = chain.map(|chain| chain.into_iter().filter_map(link).collect());
        links.unwrap_or_default()
    }

    /// The payload of a prefix, `tokens` being all of its tokens. None if it is no longer here, or its file is damaged: then it
    /// is removed, with those that continue it, and logged. None also if the system does not read the file, which stays: the
    /// next request tries it again. None also once it is not wanted, which is asked before each block.
    pub(crate) fn read(
        &self,
        key: ColdKey,
        tokens: &[u32],
        is_wanted: impl Fn() -> bool,
    ) -> Option<Vec<u8>> {
        let path = self.folder.file(key);
        let begun = Instant::now();
        let read = file::open(&path, key).and_then(|(opened, header, _)| {
            let same = self.index().get(key) == Some(&header);
            match same {
                true => file::read(opened, &header, tokens, &is_wanted),
                false => Err(BadFile::Name),
            }
        });
        let problem = match read {
            Ok(payload) => {
                let read = payload.as_ref().map_or(0, Vec::len);
                self.measured(read, begun.elapsed());
                return payload;
            }
            Err(problem) => problem,
        };
        let is_unusable = match &problem {
            BadFile::Unread(error) => error.kind() == io::ErrorKind::NotFound,
            _ => true,
        };
        // What is in a folder that replaced this process's says nothing about its prefixes.
        if is_unusable && matches!(self.folder.is_taken(), Ok(true)) {
            let was_here = self.contains(key);
            self.forget(key);
            if was_here {
                self.folder.discard(&path, &problem);
            }
        } else if let Some(left_out) = self.status().failed() {
            let file = path.display();
            tracing::warn!(
                %file, left_out,
                "cannot read a cached prefix: {problem}; its tokens are computed, and the next request tries it again"
            );
        }
        None
    }

    /// Writes a prefix. Returns whether it is here now: one that is larger than the limit, or whose parent is gone, is not.
    ///
    /// # Errors
    /// If the file cannot be written. This is logged, and [`ColdStatus::problem`] reports it until [`ColdStore::try_again`]
    /// finds that files can be written again.
    pub(crate) fn write(&self, new: &NewPrefix<'_>) -> Result<bool, ColdError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = file::file_bytes(new.tokens.len(), new.payload.len() as u64);
        let written = self.ready().and_then(|()| self.write_file(new, bytes));
        if let Err(error) = &written {
            self.pause(error, bytes);
        }
        written
    }

    /// Checks whether files can be written again, after one could not be.
    pub(crate) fn try_again(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(needed) = self.status().needed() else {
            return;
        };
        let can_hold = || {
            let held = self.folder.can_hold(needed);
            held.map_err(|source| ColdError::folder(self.folder.path(), source))
        };
        match self.ready().and_then(|()| can_hold()) {
            Ok(()) => self.status().resume(),
            Err(error) => _ = self.status().pause(&error, needed),
        }
    }

    fn pause(&self, error: &ColdError, needed: u64) {
        self.status().count(1);
        if self.status().pause(error, needed) {
            tracing::error!(
                "{error}; no prefix is written to disk until then, and no restart is needed"
            );
        }
    }

    /// Makes sure that the folder is this process's. One that was removed or replaced is taken again, with what is in it now.
    fn ready(&self) -> Result<(), ColdError> {
        let failed = |source| ColdError::folder(self.folder.path(), source);
        if self.folder.is_taken().map_err(failed)? {
            self.folder.remove_left();
            return Ok(());
        }
        *self.index() = Index::default();
        self.count();
        let index = self.folder.retake()?;
        *self.index() = index;
        self.make_room(0, &[]);
        let (folder, prefixes) = (self.folder.path().display(), self.len());
        tracing::warn!(%folder, prefixes, "the cache folder was removed or replaced; what is there now is used");
        Ok(())
    }

    fn write_file(&self, new: &NewPrefix<'_>, bytes: u64) -> Result<bool, ColdError> {
        if self.contains(new.key) {
            return Ok(true);
        }
        let keep = match new.parent {
            None => Some(Vec::new()),
            Some((parent, _)) => self.index().chain(parent),
        };
        let Some(keep) = keep.filter(|keep| self.make_room(bytes, keep)) else {
            return Ok(false);
        };
        let of = (new.fingerprint, new.scope);
        let header = Header::new(of, new.key, new.parent, new.tokens, new.payload);
        let path = self.folder.file(new.key);
        file::write(&path, &header, new.tokens, new.payload)
            .map_err(|source| ColdError::folder(self.folder.path(), source))?;
        if self.status().wrote() {
            let folder = self.folder.path().display();
            tracing::info!(%folder, "prefixes are written to disk again");
        }
        // A reader may have found the parent damaged meanwhile.
        let mut index = self.index();
        let parent_is_here = keep
            .last()
            .is_none_or(|parent| index.get(*parent).is_some());
        match parent_is_here {
            true => index.insert(header),
            false => self.folder.remove(new.key),
        }
        drop(index);
        self.count();
        Ok(parent_is_here)
    }

    /// Removes all prefixes of a fingerprint.
    pub(crate) fn clear(&self, fingerprint: &[u8; 32]) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |header: &Header| header.fingerprint == *fingerprint;
        let removed = self.index().remove_where(of);
        removed.into_iter().for_each(|key| self.folder.remove(key));
        self.count();
    }

    /// Removes a prefix and those that continue it, for a payload that is not what its header promises.
    pub(crate) fn forget(&self, key: ColdKey) {
        let removed = self.index().remove(key);
        removed.into_iter().for_each(|key| self.folder.remove(key));
        self.count();
    }

    /// Removes the prefixes of `tokens` that have at least `least` tokens, and those that continue them.
    pub(crate) fn forget_from(
        &self,
        fingerprint: &[u8; 32],
        scope: &ScopeBytes,
        tokens: &[u32],
        least: usize,
    ) {
        let mut keys = PromptKeys::new(fingerprint, scope);
        let found = self.index().prefixes(&mut keys, tokens, least);
        found.into_iter().for_each(|key| self.forget(key));
    }

    /// Evicts until so many bytes more fit; returns whether they do. The prefixes of `keep` stay.
    fn make_room(&self, bytes: u64, keep: &[ColdKey]) -> bool {
        let Some(limit) = self.limit.checked_sub(bytes) else {
            return false;
        };
        let (evicted, fits) = {
            let mut index = self.index();
            let evicted = index.evict(limit, keep);
            (evicted, index.bytes() <= limit)
        };
        // Without the lock: removing large files takes long.
        evicted.into_iter().for_each(|key| self.folder.remove(key));
        self.count();
        fits
    }

    /// Updates what [`ColdStore::bytes`] returns.
    fn count(&self) {
        self.bytes.store(self.index().bytes(), Relaxed);
    }

    /// Takes a measurement of the disk into account. Small files say little about it.
    fn measured(&self, bytes: usize, took: Duration) {
        const LEAST: usize = 1 << 20;
        if bytes >= LEAST {
            let now = bytes as f64 / took.as_secs_f64().max(1e-9);
            let mean = self.speed.load(Relaxed) as f64;
            self.speed.store((0.75 * mean + 0.25 * now) as u64, Relaxed);
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes a second that a file is read and its checksum computed: the disk's own speed is known from the first reads of files
/// that are not in memory.
fn measure(folder: &ColdFolder) -> io::Result<u64> {
    let probe = folder.probe(&vec![0x5A; PROBE])?;
    let begun = Instant::now();
    Digest::of_file(probe.beside())?;
    let took = begun.elapsed();
    Ok((PROBE as f64 / took.as_secs_f64().max(1e-9)) as u64)
}
