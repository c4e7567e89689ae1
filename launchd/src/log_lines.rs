//! The lines of a log: the last ones, across rotated files, then those that are added, across rotations.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sanctum_config::{UntrustedText, files, terminal_json};
use serde_json::{Value, json};

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// A longer line is divided.
const LONGEST: usize = 1 << 20;

/// A log that is read from its end.
#[derive(Debug)]
pub(crate) struct LogLines {
    path: PathBuf,
    /// None until it exists.
    open: Option<OpenLog>,
    /// The begin of a line whose end has not been written yet.
    partial: Vec<u8>,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// What has been read.
    position: u64,
}

/// The last lines of a log.
#[derive(Debug, Default)]
pub(crate) struct LastLines {
    /// The lines, oldest first.
    pub(crate) lines: Vec<Vec<u8>>,
    /// Whether there are more lines before these, which were not searched for.
    pub(crate) is_cut: bool,
    /// The rotated file that cannot be read, if more lines were wanted from it.
    pub(crate) unread: Option<(PathBuf, io::Error)>,
}

impl LogLines {
    /// Bytes of a log and its rotated files that are searched for the last lines.
    pub(crate) const SEARCHED: usize = 64 << 20;

    /// Reads the last `count` lines of a log. If the file has fewer or is missing, those of `LOG.1` and older ones precede them. A
    /// log that does not exist has no lines yet. At most [`LogLines::SEARCHED`] bytes are searched.
    ///
    /// # Errors
    /// If the log itself cannot be read.
    pub(crate) fn open(path: &Path, count: usize) -> io::Result<(Self, LastLines)> {
        let mut search = LineSearch {
            count,
            left: Self::SEARCHED,
            files: Vec::new(),
            found: VecDeque::new(),
            is_cut: false,
        };
        let mut open = OpenLog::open(path)?;
        if let Some(open) = &mut open {
            // A line whose end is missing is shown now; what follows continues on a new line.
            open.position = search.add(open)?;
        }
        let mut unread = None;
        let mut number = 1;
        while search.wants_more() {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            let older = OpenLog::open(Path::new(&name))
                .and_then(|older| older.map(|mut log| search.add(&mut log)).transpose());
            match older {
                Ok(Some(_)) => number += 1,
                Ok(None) => break,
                Err(error) => {
                    unread = Some((name.into(), error));
                    break;
                }
            }
        }
        let log = Self {
            path: path.to_owned(),
            open,
            partial: Vec::new(),
        };
        let last = LastLines {
            lines: search.found.into(),
            is_cut: search.is_cut,
            unread,
        };
        Ok((log, last))
    }

    /// The whole lines that were added since the last call. A log that was rotated by renaming is read to its end, then the
    /// new one from its begin; one that was truncated is read from its begin.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn added(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        if let Some(open) = &mut self.open {
            if open.file.metadata()?.len() < open.position {
                open.position = 0;
                flush(&mut self.partial, &mut lines);
            }
            open.read(&mut self.partial, &mut lines)?;
        }
        let Some(now) = OpenLog::open(&self.path)? else {
            return Ok(lines);
        };
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.identity != now.identity)
        {
            if let Some(open) = &mut self.open {
                // What was written between the read and the rotation.
                open.read(&mut self.partial, &mut lines)?;
            }
            flush(&mut self.partial, &mut lines);
            let open = self.open.insert(now);
            open.read(&mut self.partial, &mut lines)?;
        }
        Ok(lines)
    }
}

impl OpenLog {
    /// Opens a log at its begin; none if it does not exist.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match files::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let about = file.metadata()?;
        Ok(Some(Self {
            identity: (about.dev(), about.ino()),
            file,
            position: 0,
        }))
    }

    /// Reads to the end.
    fn read(&mut self, partial: &mut Vec<u8>, lines: &mut Vec<Vec<u8>>) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.position))?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = self.file.read(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            self.position += read as u64;
            for part in chunk[..read].split_inclusive(|byte| *byte == b'\n') {
                partial.extend_from_slice(part);
                if part.ends_with(b"\n") || partial.len() >= LONGEST {
                    flush(partial, lines);
                }
            }
        }
    }
}

fn flush(partial: &mut Vec<u8>, lines: &mut Vec<Vec<u8>>) {
    if !partial.is_empty() {
        lines.push(without_end(std::mem::take(partial)));
    }
}

fn without_end(mut line: Vec<u8>) -> Vec<u8> {
    if line.ends_with(b"\n") {
        line.pop();
    }
    line
}

/// The search for the last lines of a log, which goes backwards through the log and its rotated files.
struct LineSearch {
    /// The lines that are wanted.
    count: usize,
    /// Bytes that may still be searched.
    left: usize,
    /// The files that were searched: a rotation meanwhile gives one of them another name.
    files: Vec<(u64, u64)>,
    /// The lines that were found, oldest first.
    found: VecDeque<Vec<u8>>,
    is_cut: bool,
}

impl LineSearch {
    fn wants_more(&self) -> bool {
        self.found.len() < self.count && !self.is_cut
    }

    /// Puts the last lines of an older file before those that were found. Returns the size of the file.
    fn add(&mut self, log: &mut OpenLog) -> io::Result<u64> {
        let file = &mut log.file;
        let end = file.metadata()?.len();
        let wanted = self.count - self.found.len();
        if wanted == 0 || self.files.contains(&log.identity) {
            return Ok(end);
        }
        self.files.push(log.identity);
        let mut tail: VecDeque<u8> = VecDeque::new();
        let mut start = end;
        let mut breaks = 0;
        // One more line break than lines: the one before the first of them.
        while start > 0 && breaks <= wanted && tail.len() < self.left {
            let size = start.min(CHUNK as u64);
            start -= size;
            file.seek(SeekFrom::Start(start))?;
            let mut chunk = Vec::new();
            file.by_ref().take(size).read_to_end(&mut chunk)?;
            breaks += chunk.iter().filter(|byte| **byte == b'\n').count();
            chunk.iter().rev().for_each(|byte| tail.push_front(*byte));
        }
        self.left = self.left.saturating_sub(tail.len());
        self.is_cut = start > 0 && breaks <= wanted;
        let tail: &[u8] = tail.make_contiguous();
        let mut lines: VecDeque<Vec<u8>> = tail
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| without_end(line.to_vec()))
            .collect();
        // The begin of the first line was not read.
        if self.is_cut && lines.len() > 1 {
            lines.pop_front();
        }
        let surplus = lines.len().saturating_sub(wanted);
        lines.drain(..surplus);
        lines.append(&mut self.found);
        self.found = lines;
        Ok(end)
    }
}

/// A line for a terminal, escaped. The JSON lines of this fleet's programs become text: time, level, message and fields.
pub(crate) fn text(line: &[u8]) -> UntrustedText {
    let line = String::from_utf8_lossy(line);
    let entry = serde_json::from_str::<Value>(&line).ok();
    let entry = entry.as_ref().and_then(Value::as_object);
    let field = |name: &str| entry?.get(name)?.as_str();
    let (Some(time), Some(level)) = (field("timestamp"), field("level")) else {
        return UntrustedText::new(&line);
    };
    let mut text = format!("{time} {level:>5} {}", field("message").unwrap_or_default());
    for (name, value) in entry.into_iter().flatten() {
        if ["timestamp", "level", "message", "target"].contains(&name.as_str()) {
            continue;
        }
        let value = match value {
            Value::String(value) if !value.contains(char::is_whitespace) => value.clone(),
            value => value.to_string(),
        };
        text.push_str(&format!(" {name}={value}"));
    }
    UntrustedText::new(&text)
}

/// A line as JSON that can be printed to a terminal: a JSON line as it is, any other as `{"line": …}`.
pub(crate) fn json_line(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    match serde_json::from_str::<Value>(&line) {
        Ok(value @ Value::Object(_)) => terminal_json(&value.to_string()),
        _ => terminal_json(&json!({ "line": line }).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn last(path: &Path, count: usize) -> Vec<String> {
        let (_, last) = LogLines::open(path, count).unwrap();
        assert!(!last.is_cut);
        shown(&last.lines)
    }

    fn shown(lines: &[Vec<u8>]) -> Vec<String> {
        lines.iter().map(|line| text(line).to_string()).collect()
    }

    fn numbered(from: u32, to: u32) -> String {
        (from..=to)
            .map(|number| format!("line {number}\n"))
            .collect()
    }

    #[test]
    fn last_lines_are_found_across_rotated_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        assert!(last(&path, 5).is_empty(), "it does not exist yet");
        fs::write(folder.path().join("server.log.2"), numbered(1, 3)).unwrap();
        fs::write(folder.path().join("server.log.1"), numbered(4, 5)).unwrap();
        let expected = |numbers: std::ops::RangeInclusive<u32>| -> Vec<String> {
            numbers.map(|number| format!("line {number}")).collect()
        };
        // The new file is missing, or empty.
        assert_eq!(last(&path, 4), expected(2..=5));
        fs::write(&path, "").unwrap();
        assert_eq!(last(&path, 1), expected(5..=5));
        fs::write(&path, numbered(6, 7)).unwrap();
        for (count, numbers) in [(1, 7..=7), (2, 6..=7), (4, 4..=7), (100, 1..=7)] {
            assert_eq!(last(&path, count), expected(numbers), "{count}");
        }
        assert!(last(&path, 0).is_empty());
        // Longer than a chunk.
        let text = numbered(1, 60_000);
        assert!(text.len() > 5 * CHUNK);
        fs::write(&path, text).unwrap();
        assert_eq!(last(&path, 30_000), expected(30_001..=60_000));
        // Renamed after it was read.
        fs::write(&path, numbered(6, 7)).unwrap();
        fs::remove_file(folder.path().join("server.log.1")).unwrap();
        fs::hard_link(&path, folder.path().join("server.log.1")).unwrap();
        assert_eq!(
            last(&path, 100),
            [expected(1..=3), expected(6..=7)].concat()
        );
    }

    #[test]
    fn lines_that_were_not_searched_leave_no_hole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        fs::write(folder.path().join("server.log.1"), numbered(1, 5)).unwrap();
        fs::write(&path, numbered(1, 60_000)).unwrap();
        let mut search = LineSearch {
            count: 100_000,
            left: 2 * CHUNK,
            files: Vec::new(),
            found: VecDeque::new(),
            is_cut: false,
        };
        search
            .add(&mut OpenLog::open(&path).unwrap().unwrap())
            .unwrap();
        assert!(search.is_cut && !search.wants_more());
        let lines = shown(search.found.make_contiguous());
        let first: usize = lines[0].strip_prefix("line ").unwrap().parse().unwrap();
        assert_eq!(first + lines.len(), 60_001, "whole lines up to the end");
    }

    #[test]
    fn added_lines_follow_rotation_and_truncation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let (mut log, _) = LogLines::open(&path, 5).unwrap();
        assert!(log.added().unwrap().is_empty());
        fs::write(&path, "a\nhalf").unwrap();
        assert_eq!(shown(&log.added().unwrap()), ["a"]);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b" a line\n").unwrap();
        assert_eq!(shown(&log.added().unwrap()), ["half a line"]);
        // Rotated by renaming: the end of the old file, then the new file.
        file.write_all(b"old end\n").unwrap();
        fs::rename(&path, folder.path().join("server.log.1")).unwrap();
        fs::write(&path, "new\n").unwrap();
        assert_eq!(shown(&log.added().unwrap()), ["old end", "new"]);
        // Copied and truncated, as launchd's log is.
        fs::write(&path, "").unwrap();
        assert!(log.added().unwrap().is_empty());
        fs::write(&path, "x\n").unwrap();
        assert_eq!(shown(&log.added().unwrap()), ["x"]);
        fs::remove_file(&path).unwrap();
        assert!(log.added().unwrap().is_empty());
    }

    #[test]
    fn lines_are_text_without_control_characters() {
        let line = r#"{"timestamp":"2026-11-30T10:00:00Z","level":"WARN","message":"a\u001b[2J","kind":"miss","next":"tail x","latency_ms":4,"target":"t"}"#;
        assert_eq!(
            text(line.as_bytes()).as_str(),
            "2026-11-30T10:00:00Z  WARN a\\u{1b}[2J kind=miss next=\"tail x\" latency_ms=4"
        );
        assert_eq!(
            text(b"panic \x1b]0;x\x07").as_str(),
            r"panic \u{1b}]0;x\u{7}"
        );
        let json: Value = serde_json::from_str(&json_line(b"panic \x9b")).unwrap();
        assert_eq!(json["line"], "panic \u{fffd}");
        let printed = json_line(line.as_bytes());
        assert!(
            !printed.contains('\x1b') && printed.contains(r"\u001b"),
            "{printed}"
        );
    }
}
