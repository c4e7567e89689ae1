//! The thread that writes files, so that the engine does not wait for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::prefix::cold::{ColdError, ColdKey, ColdStore, KeyHasher, NewPrefix};
use crate::prefix::scope::Scope;

/// A snapshot to be exported and written now.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) scope: Scope,
    /// All of its tokens.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of the file that it continues.
    pub(crate) from: usize,
    pub(super) parent: Option<ColdKey>,
}

/// What the thread does.
pub(super) enum WriterJob {
    /// Writes an exported snapshot.
    Write(Export, Vec<u8>),
    /// Removes the prefixes of `tokens` that have at least `least` tokens.
    Forget {
        scope: Scope,
        tokens: Vec<u32>,
        least: usize,
    },
    /// Checks whether files can be written again, after one could not be.
    TryAgain,
}

/// The thread that writes.
pub(super) struct Writer {
    jobs: Option<Sender<WriterJob>>,
    /// Jobs that are not done.
    pending: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(store: Arc<ColdStore>, fingerprint: [u8; 32]) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&pending);
        let thread = std::thread::Builder::new()
            .name("prefix-writer".into())
            .spawn(move || work(&store, &fingerprint, &inbox, &left))?;
        Ok(Self {
            jobs: Some(jobs),
            pending,
            thread: Some(thread),
        })
    }

    /// Whether it has work, which it does.
    pub(super) fn is_busy(&self) -> bool {
        !self.has_ended() && self.pending.load(Ordering::Acquire) > 0
    }

    /// Whether the thread has ended: it has panicked, and does nothing any more.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(super) fn send(&self, job: WriterJob) {
        self.pending.fetch_add(1, Ordering::AcqRel);
        if let Some(jobs) = &self.jobs {
            // The thread runs as long as this sender exists, unless it has panicked.
            let _ = jobs.send(job);
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

fn work(
    store: &ColdStore,
    fingerprint: &[u8; 32],
    inbox: &Receiver<WriterJob>,
    pending: &AtomicUsize,
) {
    while let Ok(job) = inbox.recv() {
        match job {
            WriterJob::Write(export, payload) => {
                // The store logs an error, and reports it until files can be written again.
                let _ = write(store, fingerprint, &export, &payload);
            }
            WriterJob::Forget {
                scope,
                tokens,
                least,
            } => store.forget_from(fingerprint, scope.as_bytes(), &tokens, least),
            WriterJob::TryAgain => store.try_again(),
        }
        pending.fetch_sub(1, Ordering::AcqRel);
    }
}

fn write(
    store: &ColdStore,
    fingerprint: &[u8; 32],
    export: &Export,
    payload: &[u8],
) -> Result<bool, ColdError> {
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
