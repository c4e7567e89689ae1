//! The thread that writes log lines to a file.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::{RotatingFile, Rotation};

/// Lines that wait for the disk before others are left out: a few megabytes.
const WAITING: usize = 8192;
/// How often the thread checks that the file is still where it was.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Opens the file and starts the thread.
pub(super) fn start(path: &Path, rotation: Rotation) -> io::Result<(NonBlocking, WorkerGuard)> {
    let lost = Arc::new(OnceLock::new());
    let writer = LogWriter {
        file: RotatingFile::open(path, rotation)?,
        checked: Instant::now(),
        is_failing: false,
        lost: lost.clone(),
        lost_before: 0,
    };
    let (lines, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(writer);
    let _ = lost.set(lines.error_counter());
    Ok((lines, guard))
}

/// Writes lines to the file, or to standard error while that fails.
struct LogWriter {
    file: RotatingFile,
    /// When it was last checked that the file is where it was.
    checked: Instant,
    is_failing: bool,
    /// Lines that were left out; set once the channel exists.
    lost: Arc<OnceLock<ErrorCounter>>,
    /// Of them, those that were reported.
    lost_before: usize,
}

impl LogWriter {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.checked.elapsed() >= CHECK_EVERY {
            self.checked = Instant::now();
            self.file.reopen_if_moved()?;
        }
        self.file.append(line)
    }

    /// Logs what went wrong. These lines take the same way as all others, through the channel.
    fn report(&mut self) {
        if let Some(error) = self.file.rotation_error() {
            let path = self.file.path().display();
            tracing::error!("cannot rotate the log {path}, which grows beyond its size: {error}");
        }
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.lost_before {
            tracing::error!(
                lost = lost - self.lost_before,
                "log lines were left out: the disk was too slow for them"
            );
            // The report may have been left out too; then the next one has the sum.
            if self.lost.get().map_or(0, ErrorCounter::dropped_lines) == lost {
                self.lost_before = lost;
            }
        }
    }
}

/// A write is one line, or several whole ones. It never fails: errors are reported on standard error.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.append(line) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                let mut out = io::stderr().lock();
                if !self.is_failing {
                    self.is_failing = true;
                    let path = self.file.path().display();
                    let _ = writeln!(
                        out,
                        "cannot write the log {path}: {error}; log lines go to standard error until it can be written"
                    );
                }
                let _ = out.write_all(line);
            }
        }
        self.report();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::num::NonZeroU64;

    const ROTATION: Rotation = Rotation {
        max_bytes: NonZeroU64::new(1000).unwrap(),
        keep: 1,
    };

    #[test]
    fn lines_are_in_the_file_when_the_writer_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/canary.log");
        let (mut lines, writer) = start(&path, ROTATION).unwrap();
        for _ in 0..50 {
            lines.write_all(b"twenty-nine bytes, newline in\n").unwrap();
        }
        drop(writer);
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        let (now, before) = (size(&path), size(&folder.path().join("logs/canary.log.1")));
        assert!(now <= 1000 && before <= 1000 && now + before == 1500);
    }

    #[test]
    fn log_that_is_a_fifo_or_a_folder_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        for (path, kind) in [(fifo.as_path(), "a FIFO"), (folder.path(), "a folder")] {
            let error = start(path, ROTATION).err().unwrap().to_string();
            assert!(error.contains(kind), "{error}");
        }
    }
}
