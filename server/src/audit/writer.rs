//! The thread that writes the lines, and the handle that enqueues them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use sanctum_config::{RotatingFile, Rotation};

use super::line::AuditLine;
use crate::metrics::Metrics;

/// Lines that wait for the disk before more of them are lost: half a megabyte.
const WAITING: usize = 1024;
/// Bytes that are written at once, where so many wait.
const BATCH: usize = 64 << 10;
/// How often the thread checks that the file was not moved.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuditFile {
    /// The file that is written to.
    pub path: PathBuf,
    /// When it is rotated.
    pub rotation: Rotation,
}

/// An audit log that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the audit log {}: {source}; name another file with --audit-log, or set audit.enabled = false",
    path.display()
)]
pub(crate) struct AuditError {
    path: PathBuf,
    source: io::Error,
}

/// Accepts lines, or discards them where no audit log is kept. It never waits.
#[derive(Clone)]
pub(crate) struct AuditLog {
    lines: Option<SyncSender<WriterMessage>>,
    metrics: Arc<Metrics>,
}

/// Ends the log.
pub(crate) struct AuditWriter {
    lines: SyncSender<WriterMessage>,
    done: Receiver<()>,
}

enum WriterMessage {
    /// Without its newline.
    Line(Vec<u8>),
    /// Nothing will come after it.
    End,
}

impl AuditLog {
    /// Keeps no log.
    pub(crate) fn off(metrics: Arc<Metrics>) -> Self {
        Self {
            lines: None,
            metrics,
        }
    }

    /// Opens the file and starts the thread.
    pub(crate) fn start(
        file: AuditFile,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, AuditWriter), AuditError> {
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
        Ok((audit, AuditWriter { lines, done }))
    }

    /// Whether a log is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Enqueues a line, if a log is kept.
    pub(crate) fn write(&self, line: &AuditLine<'_>) {
        // Numbers and strings always make JSON.
        if let Ok(line) = serde_json::to_vec(line) {
            self.enqueue(line);
        }
    }

    fn enqueue(&self, line: Vec<u8>) {
        let Some(lines) = &self.lines else {
            return;
        };
        if lines.try_send(WriterMessage::Line(line)).is_err() {
            lose(&self.metrics, 1, &"the disk is too slow");
        }
    }
}

impl AuditWriter {
    /// Writes what was enqueued until now, and ends the thread. The wait for a disk that does not answer is limited.
    pub(crate) fn finish(self) {
        let until = Instant::now() + PATIENCE;
        while self.lines.try_send(WriterMessage::End).is_err() {
            if Instant::now() > until {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = until.saturating_duration_since(Instant::now());
        // The thread drops its end when it is done.
        if self.done.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the audit log's disk does not answer: its last lines are lost");
        }
    }
}

/// Writes lines until the end comes.
fn write_all(mut file: RotatingFile, waiting: &Receiver<WriterMessage>, metrics: &Metrics) {
    let mut checked = Instant::now();
    let mut batch = Vec::with_capacity(BATCH);
    let mut ended = false;
    while !ended {
        let Ok(first) = waiting.recv() else { break };
        let mut count = 0;
        for message in std::iter::once(first).chain(waiting.try_iter()) {
            match message {
                WriterMessage::End => ended = true,
                WriterMessage::Line(line) => {
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

/// Counts lines that are lost, and logs it when their number has doubled.
fn lose(metrics: &Metrics, lines: u64, why: &dyn std::fmt::Display) {
    let before = metrics.audit_lost(lines);
    let now = before + lines;
    if lines > 0 && before.checked_ilog2() != now.checked_ilog2() {
        tracing::error!(lost = now, "lines of the audit log are lost: {why}");
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn audit_log_that_is_no_regular_file_fails_at_start() {
        let dir = TempDir::new().unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for (path, kind) in [
            (fifo.as_path(), "a FIFO"),
            (dir.path(), "a folder"),
            (Path::new("/dev/full"), "a device"),
        ] {
            let file = AuditFile {
                path: path.to_owned(),
                rotation: Rotation {
                    max_bytes: NonZeroU64::new(1 << 20).unwrap(),
                    keep: 1,
                },
            };
            let error = AuditLog::start(file, Arc::new(Metrics::new()));
            let error = error.err().unwrap().to_string();
            assert!(
                error.contains(kind) && error.contains("--audit-log"),
                "{error}"
            );
        }
    }

    #[test]
    fn enqueuing_lines_never_waits_for_the_disk() {
        let metrics = Arc::new(Metrics::new());
        let (lines, _never_read) = mpsc::sync_channel(WAITING);
        let audit = AuditLog {
            lines: Some(lines),
            metrics: metrics.clone(),
        };
        for _ in 0..5000 {
            audit.enqueue(b"{}".to_vec());
        }
        assert!(metrics.audit_lost(0) > 3000);
    }
}
