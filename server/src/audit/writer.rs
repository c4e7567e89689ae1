//! The thread that writes the lines, and the handle that hands them to it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use sanctum_config::RotatingFile;

use super::AuditFile;
use crate::metrics::Metrics;

/// Lines that wait for the disk before more of them are lost: half a megabyte.
const WAITING: usize = 1024;
/// Bytes that are written at once, where so many wait.
const BATCH: usize = 64 << 10;
/// How often the thread makes sure that the file is still where it was.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for a disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// An audit log that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the audit log {}: {source}; name another file with --audit-log, or set audit.enabled = false",
    path.display()
)]
pub struct AuditError {
    path: PathBuf,
    source: io::Error,
}

/// Takes lines, or forgets them where no audit log is kept. Never waits.
#[derive(Clone)]
pub struct Audit {
    lines: Option<SyncSender<Message>>,
    metrics: Arc<Metrics>,
}

/// The other end: whoever has it ends the log.
pub struct Writer {
    lines: SyncSender<Message>,
    done: Receiver<()>,
}

enum Message {
    /// Without its newline.
    Line(Vec<u8>),
    /// Nothing will come after it.
    End,
}

impl Audit {
    /// Keeps no log.
    pub fn off(metrics: Arc<Metrics>) -> Self {
        Self {
            lines: None,
            metrics,
        }
    }

    /// Opens the file and starts the thread.
    pub fn start(file: AuditFile, metrics: Arc<Metrics>) -> Result<(Self, Writer), AuditError> {
        let AuditFile { path, rotation } = file;
        let (lines, waiting) = mpsc::sync_channel(WAITING);
        let (end, done) = mpsc::channel();
        let counting = metrics.clone();
        let thread = std::thread::Builder::new().name("audit".into());
        RotatingFile::open(&path, rotation)
            .and_then(|file| {
                thread.spawn(move || {
                    write_all(file, &waiting, &counting);
                    drop(end);
                })
            })
            .map_err(|source| AuditError { path, source })?;
        let audit = Self {
            lines: Some(lines.clone()),
            metrics,
        };
        Ok((audit, Writer { lines, done }))
    }

    /// Whether a log is kept.
    pub fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Hands over a line.
    pub fn write(&self, line: Vec<u8>) {
        let Some(lines) = &self.lines else {
            return;
        };
        if lines.try_send(Message::Line(line)).is_err() {
            lose(&self.metrics, 1, &"the disk is too slow");
        }
    }
}

impl Writer {
    /// Writes what was handed over until now, and ends the thread. A disk that does not answer is not waited for long.
    pub fn finish(self) {
        let until = Instant::now() + PATIENCE;
        while self.lines.try_send(Message::End).is_err() {
            if Instant::now() > until {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = until.saturating_duration_since(Instant::now());
        // The thread says that it is done by dropping its end.
        if self.done.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the audit log's disk does not answer: its last lines are lost");
        }
    }
}

/// Writes lines until the end comes.
fn write_all(mut file: RotatingFile, waiting: &Receiver<Message>, metrics: &Metrics) {
    let mut checked = Instant::now();
    let mut batch = Vec::with_capacity(BATCH);
    let mut ended = false;
    while !ended {
        let Ok(first) = waiting.recv() else { break };
        let mut count = 0;
        for message in std::iter::once(first).chain(waiting.try_iter()) {
            match message {
                Message::End => ended = true,
                Message::Line(line) => {
                    batch.extend_from_slice(&line);
                    batch.push(b'\n');
                    count += 1;
                }
            }
            if ended || batch.len() >= BATCH {
                break;
            }
        }
        let again = checked.elapsed() >= CHECK_EVERY;
        if again {
            checked = Instant::now();
        }
        let written = match again {
            true => file.reopen_if_moved().and_then(|()| file.append(&batch)),
            false => file.append(&batch),
        };
        batch.clear();
        if let Some(error) = file.rotation_error() {
            tracing::error!(%error, "the audit log cannot be rotated and grows beyond its size");
        }
        if let Err(error) = written {
            lose(metrics, count, &error);
        }
    }
    if let Err(error) = file.sync() {
        tracing::error!(%error, "the audit log's last lines may not survive a loss of power");
    }
}

/// A log whose thread never comes to writing, for as long as the second value lives.
#[cfg(test)]
pub(super) fn unwritten(metrics: Arc<Metrics>) -> (Audit, impl Sized) {
    let (lines, waiting) = mpsc::sync_channel(WAITING);
    let lines = Some(lines);
    (Audit { lines, metrics }, waiting)
}

/// Counts lines that are lost, and says so when their number has doubled: neither never nor for each.
fn lose(metrics: &Metrics, lines: u64, why: &dyn std::fmt::Display) {
    let before = metrics.audit_lost(lines);
    let now = before + lines;
    if lines > 0 && before.checked_ilog2() != now.checked_ilog2() {
        tracing::error!(lost = now, "lines of the audit log are lost: {why}");
    }
}
