//! Rotation of the logs that launchd appends to. launchd keeps a log open, and continues to write to a file that was
//! renamed, so the guardian copies such a log and truncates it (copytruncate). launchd opens logs with O_APPEND: its next
//! line is at the new end.
//!
//! What a program writes in the microseconds between the end of the copy and the truncation is lost. A reader may see the
//! first bytes of a line that is still being written (a write across a page boundary is not atomic for readers), so the
//! copy continues until it ends with a line. A guardian that is killed in between loses nothing: the next round finds that
//! the copy is the log's beginning, and makes the copy again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sanctum_config::{atomic, files};

/// How long a rotation waits for the rest of a line. A program that leaves a line unfinished for longer, such as a prompt,
/// is rotated in the middle of that line.
const LINE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a log has reached `max_bytes`, or cannot be measured, which its rotation reports.
pub(crate) fn is_full(log: &Path, max_bytes: u64) -> bool {
    match fs::metadata(log) {
        Ok(about) => !about.is_file() || about.len() >= max_bytes,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Rotates a log that has reached `max_bytes`: `LOG.1` is the newest of `keep` older ones. Returns whether it did.
///
/// # Errors
/// If it cannot be rotated; it is unchanged then. A log that does not exist needs no rotation.
pub(crate) fn rotate(log: &Path, max_bytes: u64, keep: usize) -> io::Result<bool> {
    rotate_within(log, max_bytes, keep, LINE_TIMEOUT)
}

fn rotate_within(log: &Path, max_bytes: u64, keep: usize, timeout: Duration) -> io::Result<bool> {
    let mut file = match files::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let size = file.metadata()?.len();
    if size < max_bytes {
        return Ok(false);
    }
    if keep > 0 {
        let newest = numbered(log, 1);
        let is_again = is_beginning(&newest, &mut file)?;
        // A log that grew while no guardian ran may be larger than all that is kept.
        let begin = match size >= 2 * max_bytes {
            true => next_line(&mut file, size - max_bytes)?,
            false => 0,
        };
        file.seek(SeekFrom::Start(begin))?;
        // The copy is complete before an older log is moved.
        let copy = atomic::stage(&newest, &mut file, 0o600)?;
        if newest.try_exists()? && !is_again {
            shift(log, keep)?;
        }
        copy.put()?;
        // What was written meanwhile.
        let copy = File::options().read(true).append(true).open(&newest)?;
        append_whole_lines(&mut file, copy, timeout)?;
    }
    truncate(log, &file)?;
    Ok(true)
}

/// Appends the rest of `log` to `copy`, until the copy ends with a line or `timeout` has passed.
fn append_whole_lines(log: &mut File, mut copy: File, timeout: Duration) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        io::copy(log, &mut copy)?;
        let size = copy.metadata()?.len();
        let mut last = [b'\n'];
        if size > 0 {
            copy.read_exact_at(&mut last, size - 1)?;
        }
        if last == *b"\n" || begun.elapsed() >= timeout {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Where the next line begins after `from`; `from` itself in a line of more than 64 KiB.
fn next_line(log: &mut File, from: u64) -> io::Result<u64> {
    let mut bytes = Vec::new();
    log.seek(SeekFrom::Start(from))?;
    log.take(64 << 10).read_to_end(&mut bytes)?;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    Ok(from + end.map_or(0, |end| end as u64 + 1))
}

/// Truncates the log, if it is still the file that was copied.
fn truncate(log: &Path, copied: &File) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(log)?;
    let (now, then) = (file.metadata()?, copied.metadata()?);
    if (now.dev(), now.ino()) != (then.dev(), then.ino()) {
        return Err(io::Error::other("it was replaced while it was copied"));
    }
    file.set_len(0)
}

/// Moves `LOG.1`, which exists, to `LOG.2`, and so on. (Without `LOG.1` an earlier rotation ended after this step.)
fn shift(log: &Path, keep: usize) -> io::Result<()> {
    atomic::remove(&numbered(log, keep))?;
    for number in (1..keep).rev() {
        match fs::rename(numbered(log, number), numbered(log, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the newest copy is the beginning of the log: a rotation was interrupted before the truncation.
fn is_beginning(newest: &Path, log: &mut File) -> io::Result<bool> {
    let mut copy = match files::open(newest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let size = copy.metadata()?.len();
    if size == 0 || size > log.metadata()?.len() {
        return Ok(false);
    }
    log.seek(SeekFrom::Start(0))?;
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut left = size;
    while left > 0 {
        let piece = usize::try_from(left.min(a.len() as u64)).unwrap_or(a.len());
        copy.read_exact(&mut a[..piece])?;
        log.read_exact(&mut b[..piece])?;
        if a[..piece] != b[..piece] {
            return Ok(false);
        }
        left -= piece as u64;
    }
    Ok(true)
}

fn numbered(log: &Path, number: usize) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A program that launchd has started: its log is open for appending.
    struct Program {
        log: PathBuf,
        out: File,
        lines: usize,
    }

    impl Program {
        fn start(folder: &Path) -> Self {
            let log = folder.join("other.log");
            let out = File::options()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap();
            Self { log, out, lines: 0 }
        }

        fn write(&mut self, lines: usize) {
            for _ in 0..lines {
                let line = format!(
                    "line {:07} of a program that knows nothing of this\n",
                    self.lines
                );
                self.out.write_all(line.as_bytes()).unwrap();
                self.lines += 1;
            }
        }

        fn size(&self) -> u64 {
            fs::metadata(&self.log).unwrap().len()
        }
    }

    /// The numbers of all lines that are left, oldest first.
    fn numbers(log: &Path, keep: usize) -> Vec<usize> {
        let logs = (1..=keep)
            .rev()
            .map(|number| numbered(log, number))
            .chain([log.to_owned()]);
        let texts = logs.map(|path| fs::read_to_string(path).unwrap_or_default());
        let text = texts.collect::<String>();
        let number = |line: &str| line.strip_prefix("line ")?.split(' ').next()?.parse().ok();
        text.lines()
            .map(|line| number(line).unwrap_or_else(|| panic!("torn: {line:?}")))
            .collect()
    }

    #[test]
    fn log_of_a_program_that_holds_it_open_is_rotated_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path());
        let (max, keep) = (100_000, 3);
        // 10 MB.
        let mut rotations = 0;
        for _ in 0..100 {
            program.write(2000);
            rotations += usize::from(rotate(&program.log, max, keep).unwrap());
            assert!(program.size() < max);
        }
        assert_eq!(rotations, 100);
        let left = numbers(&program.log, keep);
        assert_eq!(
            left,
            (program.lines - left.len()..program.lines).collect::<Vec<_>>()
        );
        assert_eq!(left.len(), 3 * 2000);
        assert!(!numbered(&program.log, 4).exists());
        assert!(!rotate(&program.log, max, keep).unwrap(), "it is short");
        assert!(!rotate(&folder.path().join("absent"), max, keep).unwrap());
    }

    #[test]
    fn rotation_while_the_program_writes_keeps_whole_lines_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path());
        let log = program.log.clone();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..400 {
                    while program.size() > 150_000 {
                        thread::yield_now();
                    }
                    program.write(100);
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                rotate(&log, 100_000, 1000).unwrap();
            }
            writer.join().unwrap();
        });
        let left = numbers(&log, 1000);
        assert!(left.is_sorted());
        // A rotation copies 100,000 bytes at least and can lose what is written until the truncation: the writer waits at 150,000.
        assert!(
            left.len() > 20_000,
            "{} of 40000 lines are left",
            left.len()
        );
    }

    #[test]
    fn line_that_is_still_being_written_is_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path());
        program.write(100);
        program.out.write_all(b"lin").unwrap();
        let log = program.log.clone();
        let copied = numbered(&log, 1);
        thread::scope(|scope| {
            let rotation = scope.spawn(|| rotate_within(&log, 4000, 3, Duration::MAX));
            while !copied.exists() {
                thread::yield_now();
            }
            program.out.write_all(b"e 0000100 of a program\n").unwrap();
            assert!(rotation.join().unwrap().unwrap());
        });
        assert_eq!(program.size(), 0);
        assert_eq!(numbers(&log, 3), (0..=100).collect::<Vec<_>>());
    }

    #[test]
    fn line_that_stays_unfinished_is_continued_in_the_next_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path());
        program.write(100);
        program.out.write_all(b"lin").unwrap();
        assert!(rotate_within(&program.log, 4000, 3, Duration::ZERO).unwrap());
        program.out.write_all(b"e 0000100 of a program\n").unwrap();
        assert_eq!(numbers(&program.log, 3), (0..=100).collect::<Vec<_>>());
    }

    #[test]
    fn rotation_that_was_interrupted_before_the_truncation_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path());
        program.write(100);
        assert!(rotate(&program.log, 4000, 3).unwrap());
        program.write(100);
        // Killed after the copy; the program continues to write.
        shift(&program.log, 3).unwrap();
        fs::copy(&program.log, numbered(&program.log, 1)).unwrap();
        program.write(10);
        assert!(rotate(&program.log, 4000, 3).unwrap());
        assert_eq!(numbers(&program.log, 3), (0..210).collect::<Vec<_>>());
    }

    #[test]
    fn older_logs_are_kept_when_the_copy_fails() {
        let folder = tempfile::tempdir().unwrap();
        // The log's name fits into the 255 bytes of a file name; that of the staged copy does not.
        let log = folder.path().join("x".repeat(250));
        fs::write(&log, "new\n".repeat(1000)).unwrap();
        let older = [(1, "newer\n"), (2, "older\n")];
        for (number, text) in older {
            fs::write(numbered(&log, number), text).unwrap();
        }
        for _ in 0..3 {
            rotate(&log, 1000, 2).unwrap_err();
        }
        for (number, text) in older {
            let kept = fs::read_to_string(numbered(&log, number)).unwrap();
            assert_eq!(kept, text);
        }
        assert_eq!(fs::metadata(&log).unwrap().len(), 4000);
    }

    #[test]
    fn rotation_that_was_interrupted_before_the_copy_is_in_place_keeps_every_older_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path());
        for _ in 0..2 {
            program.write(100);
            assert!(rotate(&program.log, 4000, 3).unwrap());
        }
        program.write(100);
        shift(&program.log, 3).unwrap();
        assert!(rotate(&program.log, 4000, 3).unwrap());
        assert_eq!(numbers(&program.log, 3), (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn log_far_beyond_its_limit_keeps_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::start(folder.path());
        program.write(1000);
        assert!(rotate(&program.log, 1000, 2).unwrap());
        let kept = numbers(&program.log, 2);
        assert!(
            (10..20).contains(&kept.len()) && kept.last() == Some(&999),
            "{kept:?}"
        );
        program.write(100);
        assert!(rotate(&program.log, 1000, 0).unwrap());
        assert_eq!(program.size(), 0);
        // A FIFO is an error at once.
        let fifo = folder.path().join("fifo.log");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let error = rotate(&fifo, 1, 2).unwrap_err().to_string();
        assert!(error.contains("a FIFO"), "{error}");
    }
}
