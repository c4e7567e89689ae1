//! The thread that reads files and checks what they hold, so that the engine does not wait for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::freeze::{self, Point};
use crate::prefix::cold::{ColdLink, ColdStore};

/// How far the files of a prefix are read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadProgress {
    /// The next one is being read.
    Reading,
    /// The payload of the next one.
    Payload(Vec<u8>),
    /// There is no next one: all were read, or one could not be.
    Done,
}

/// The files of one prefix, in order.
struct ReaderJob {
    links: Vec<ColdLink>,
    /// All tokens of the last one.
    tokens: Vec<u32>,
    payloads: SyncSender<Vec<u8>>,
    /// A message for each file that may be read.
    permits: Receiver<()>,
    is_wanted: Arc<AtomicBool>,
}

/// The prefix that is wanted. Dropping it ends its read at the next block.
struct WantedPrefix {
    payloads: Receiver<Vec<u8>>,
    permits: Sender<()>,
    is_wanted: Arc<AtomicBool>,
}

impl Drop for WantedPrefix {
    fn drop(&mut self) {
        self.is_wanted.store(false, Relaxed);
    }
}

/// The thread that reads, one prefix at a time.
pub(super) struct PrefixReader {
    jobs: Option<Sender<ReaderJob>>,
    wanted: Option<WantedPrefix>,
    /// Whether the thread has a prefix to read, wanted or not.
    is_busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PrefixReader {
    pub(super) fn start(store: Arc<ColdStore>) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        let is_busy = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_busy);
        let thread = std::thread::Builder::new()
            .name("prefix-reader".into())
            .spawn(move || work(&store, &inbox, &busy))?;
        Ok(Self {
            jobs: Some(jobs),
            wanted: None,
            is_busy,
            thread: Some(thread),
        })
    }

    /// Begins to read. Returns whether it does: the thread may still be reading a prefix that is no longer wanted.
    pub(super) fn begin(&mut self, links: &[ColdLink], tokens: &[u32]) -> bool {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (sender, receiver) = sync_channel(0);
        // Each payload is dropped before the next one is read: one at a time is in memory.
        let (permits, permitted) = channel();
        // The first file may be read; the job holds the receiver.
        let _ = permits.send(());
        let is_wanted = Arc::new(AtomicBool::new(true));
        let job = ReaderJob {
            links: links.to_vec(),
            tokens: tokens.to_vec(),
            payloads: sender,
            permits: permitted,
            is_wanted: Arc::clone(&is_wanted),
        };
        self.wanted = Some(WantedPrefix {
            payloads: receiver,
            permits,
            is_wanted,
        });
        // The thread runs as long as this sender exists.
        self.jobs
            .as_ref()
            .is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// What was read next, if it is there within `wait`. A payload is given back with [`PrefixReader::used`]: no other one is read
    /// before that.
    pub(super) fn next(&mut self, wait: Duration) -> ReadProgress {
        let wanted = self.wanted.as_ref();
        match wanted.map(|wanted| wanted.payloads.recv_timeout(wait)) {
            Some(Ok(payload)) => ReadProgress::Payload(payload),
            Some(Err(RecvTimeoutError::Timeout)) => ReadProgress::Reading,
            Some(Err(RecvTimeoutError::Disconnected)) | None => ReadProgress::Done,
        }
    }

    /// Drops the payload that was read last, and reads the next one.
    pub(super) fn used(&mut self, payload: Vec<u8>) {
        drop(payload);
        if let Some(wanted) = &self.wanted {
            // The thread may have read the last file.
            let _ = wanted.permits.send(());
        }
    }

    /// What is being read is no longer wanted: the thread stops at the next block.
    pub(super) fn end(&mut self) {
        self.wanted = None;
    }

    /// Whether the thread reads a prefix, wanted or not.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }
}

impl Drop for PrefixReader {
    fn drop(&mut self) {
        self.jobs = None;
        // The thread may be reading it, or waiting for it to be received.
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported already.
            let _ = thread.join();
        }
    }
}

fn work(store: &ColdStore, inbox: &Receiver<ReaderJob>, is_busy: &AtomicBool) {
    while let Ok(job) = inbox.recv() {
        for link in &job.links {
            if job.permits.recv().is_err() {
                break;
            }
            freeze::pass(Point::Read);
            let is_wanted = || job.is_wanted.load(Relaxed);
            let payload = store.read(link.key, &job.tokens[..link.len], is_wanted);
            if payload.is_none_or(|payload| job.payloads.send(payload).is_err()) {
                break;
            }
        }
        // Before the receiver learns that there is no more: it may begin with another prefix at once.
        is_busy.store(false, Ordering::Release);
    }
}
