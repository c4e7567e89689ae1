//! SHA-256 over many files, on all cores.
//!
//! SHA-256 is sequential within a file, so the files are the unit of work, the longest first, which keeps all cores busy
//! until shortly before the end. `sha2` chooses the processor's own SHA-256 instructions at run time (SHA-NI on
//! x86-64, the ARMv8 extension).

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::Bytes;
use crate::folder::{FileStamp, OpenFolder};
use crate::{Digest, Fault, FileName};

/// Bytes between two reports of progress.
const PIECE: usize = 8 << 20;

/// Bytes that are read at once from an unmapped file: they stay in the core's cache.
const BUFFER: usize = 256 << 10;

/// A file to hash.
pub(crate) struct HashJob {
    pub name: FileName,
    /// For the schedule and the progress; the file may have another size when it is opened.
    pub size: u64,
    pub content: Content,
}

/// Where a job's bytes are.
pub(crate) enum Content {
    /// Open and mapped: the loader reads the same mapping.
    Mapped(Bytes, FileStamp),
    /// In the folder; only the hash needs them.
    Unopened,
}

/// The digest and stamp of a file, or what is wrong with it.
pub(crate) type HashResult = Result<(Digest, FileStamp), Fault>;

/// Threads that hash. When it is dropped they stop.
pub(crate) struct Hashing {
    reports: Receiver<HashProgress>,
    total: u64,
    stop: Arc<AtomicBool>,
}

enum HashProgress {
    /// So many bytes more.
    Bytes(u64),
    /// A file is done.
    File(FileName, HashResult),
}

/// What the threads share.
struct HashWork {
    folder: Arc<OpenFolder>,
    jobs: Vec<HashJob>,
    next: AtomicUsize,
    stop: Arc<AtomicBool>,
}

impl Hashing {
    /// Starts as many threads as there is use for, `threads` at most.
    ///
    /// # Errors
    /// If the system refuses the first of them.
    pub(crate) fn start(
        folder: Arc<OpenFolder>,
        mut jobs: Vec<HashJob>,
        threads: usize,
    ) -> io::Result<Self> {
        jobs.sort_by_key(|job| std::cmp::Reverse(job.size));
        let total = jobs.iter().map(|job| job.size).sum();
        let threads = threads.min(jobs.len()).max(1);
        let stop = Arc::new(AtomicBool::new(false));
        let work = Arc::new(HashWork {
            folder,
            jobs,
            next: AtomicUsize::new(0),
            stop: stop.clone(),
        });
        let (sender, reports) = channel();
        for started in 0..threads {
            let (work, sender) = (work.clone(), sender.clone());
            let thread = thread::Builder::new()
                .name("hash".into())
                .spawn(move || work.run(&sender));
            match thread {
                Ok(_) => {}
                Err(error) if started == 0 => return Err(error),
                // Fewer threads do the same work.
                Err(_) => break,
            }
        }
        Ok(Self {
            reports,
            total,
            stop,
        })
    }

    /// Waits for all of them. Calls `progress(done, total)` with bytes.
    pub(crate) fn finish(self, mut progress: impl FnMut(u64, u64)) -> Vec<(FileName, HashResult)> {
        let mut done = 0;
        let mut found = Vec::new();
        progress(0, self.total);
        for report in &self.reports {
            match report {
                HashProgress::Bytes(bytes) => {
                    done += bytes;
                    progress(done, self.total.max(done));
                }
                HashProgress::File(name, digest) => found.push((name, digest)),
            }
        }
        found
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl HashWork {
    fn run(&self, reports: &Sender<HashProgress>) {
        let mut buffer = vec![0; BUFFER];
        while let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let found = match &job.content {
                Content::Mapped(bytes, stamp) => self.mapped(bytes, reports).map(|d| (d, *stamp)),
                Content::Unopened => self.unopened(&job.name, &mut buffer, reports),
            };
            let _ = reports.send(HashProgress::File(job.name.clone(), found));
        }
    }

    fn mapped(&self, bytes: &Bytes, reports: &Sender<HashProgress>) -> Result<Digest, Fault> {
        let mut hash = Sha256::new();
        for piece in bytes.chunks(PIECE) {
            self.check_stop()?;
            hash.update(piece);
            let _ = reports.send(HashProgress::Bytes(piece.len() as u64));
        }
        Ok(Digest::from(<[u8; 32]>::from(hash.finalize())))
    }

    fn unopened(
        &self,
        name: &FileName,
        buffer: &mut [u8],
        reports: &Sender<HashProgress>,
    ) -> HashResult {
        let (mut file, stamp) = self.folder.open_file(name)?;
        let mut hash = Sha256::new();
        let mut unreported = 0;
        loop {
            match file.read(buffer) {
                Ok(0) => break,
                Ok(read) => {
                    hash.update(&buffer[..read]);
                    unreported += read;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if unreported >= PIECE {
                self.check_stop()?;
                let _ = reports.send(HashProgress::Bytes(unreported as u64));
                unreported = 0;
            }
        }
        let _ = reports.send(HashProgress::Bytes(unreported as u64));
        Ok((Digest::from(<[u8; 32]>::from(hash.finalize())), stamp))
    }

    fn check_stop(&self) -> io::Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }
}

/// The whole content of a file, read rather than mapped, so that later writes do not change it.
pub fn read_whole(mut file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(usize::try_from(size).unwrap_or(usize::MAX))
        .map_err(io::Error::other)?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
