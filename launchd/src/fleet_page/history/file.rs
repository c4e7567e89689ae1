//! The file of the history: a header, and one JSON line for each addition to a bucket.
//!
//! Lines are appended and synced. When the file has more than twice the size of its compact form and [`SURPLUS`], it is
//! replaced by that form, written beside it and renamed. A file that was cut anywhere is read up to its last whole line. One
//! that is damaged elsewhere is moved aside, since nothing says which of its lines are true.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::{FileLock, Label, atomic, files};
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;

/// The first line.
const HEADER: &str = "{\"format\":\"sanctum fleet page history\",\"version\":1}";
/// A larger file is not a history: 50 servers have 10 MB.
const LARGEST: u64 = 64 << 20;
/// Bytes that may be appended beyond twice the compact form.
const SURPLUS: u64 = 256 << 10;

/// One line: an addition to a bucket of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryRecord {
    /// The server.
    #[serde(rename = "s")]
    pub(super) server: Label,
    /// The number of the bucket since 1970.
    #[serde(rename = "b")]
    pub(super) bucket: i64,
    /// What is added.
    #[serde(rename = "v")]
    pub(super) sum: Bucket,
}

/// The file of this process.
#[derive(Debug)]
pub(super) struct HistoryFile {
    path: PathBuf,
    /// None until it is replaced: it was not read whole, or the last append failed and may have left half a line.
    file: Option<File>,
    /// Its size.
    bytes: u64,
    /// Its size after the last compaction.
    compact_bytes: u64,
    _lock: FileLock,
}

impl HistoryFile {
    /// Reads the file, and takes the right to write it. Returns the file, its records, and why it is not written: another
    /// process does, or it cannot be read. A file that was opened must be replaced before it is appended to.
    pub(super) fn open(path: &Path) -> (Option<Self>, Vec<HistoryRecord>, Option<String>) {
        let shown = path.display();
        let lock = FileLock::take(&path.with_extension("lock"), Duration::ZERO);
        let (lock, problem) = match lock {
            Ok(Some(lock)) => (Some(lock), None),
            Ok(None) => {
                let problem = format!(
                    "another process writes the history {shown}: another fleet page runs on this host"
                );
                (None, Some(problem))
            }
            Err(error) => (
                None,
                Some(format!("cannot write the history {shown}: {error}")),
            ),
        };
        let (records, unread) = match files::read_own(path, LARGEST).map(|bytes| parse(&bytes)) {
            Ok(Ok(records)) => (records, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) if error.kind() != io::ErrorKind::InvalidData => (
                Vec::new(),
                Some(format!("cannot read the history {shown}: {error}")),
            ),
            Ok(Err(why)) => (Vec::new(), move_aside(path, &why, lock.is_some())),
            Err(why) => (
                Vec::new(),
                move_aside(path, &why.to_string(), lock.is_some()),
            ),
        };
        let problem = problem.or(unread);
        if let Some(problem) = &problem {
            tracing::warn!("{problem}; the page continues with what is in memory");
        }
        let file = lock.filter(|_| problem.is_none()).map(|lock| Self {
            path: path.to_owned(),
            file: None,
            bytes: 0,
            compact_bytes: 0,
            _lock: lock,
        });
        (file, records, problem)
    }

    /// Whether it must be replaced, instead of appended to.
    pub(super) fn must_compact(&self) -> bool {
        self.file.is_none() || self.bytes > 2 * self.compact_bytes + SURPLUS
    }

    /// Replaces it by its compact form.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn replace(
        &mut self,
        buckets: &BTreeMap<Label, BTreeMap<i64, Bucket>>,
    ) -> Result<(), String> {
        self.file = None;
        let records = buckets.iter().flat_map(|(server, buckets)| {
            buckets.iter().map(move |(bucket, sum)| HistoryRecord {
                server: server.clone(),
                bucket: *bucket,
                sum: *sum,
            })
        });
        let bytes = format!("{HEADER}\n{}", lines(records)).into_bytes();
        atomic::write(&self.path, &bytes, 0o600)
            .and_then(|()| files::open_log(&self.path))
            .map(|file| {
                self.bytes = bytes.len() as u64;
                self.compact_bytes = self.bytes;
                self.file = Some(file);
            })
            .map_err(|error| self.failed(&error))
    }

    /// Appends lines and syncs them. After an error the file must be replaced.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(super) fn append(&mut self, records: &[HistoryRecord]) -> Result<(), String> {
        let Some(mut file) = self.file.take() else {
            return Err(format!("the history {} is not open", self.path.display()));
        };
        let bytes = lines(records.iter().cloned()).into_bytes();
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
            return Err(self.failed(&error));
        }
        self.bytes += bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("cannot write the history {}: {error}", self.path.display())
    }
}

fn lines(records: impl Iterator<Item = HistoryRecord>) -> String {
    let mut text = String::new();
    for record in records {
        text.push_str(&serde_json::to_string(&record).expect("a record is plain data"));
        text.push('\n');
    }
    text
}

/// The records of a file. What follows the last line feed is incomplete, and is ignored.
///
/// # Errors
/// If a line is damaged, or it is the history of another version: the line and why.
fn parse(bytes: &[u8]) -> Result<Vec<HistoryRecord>, String> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n');
    let Some(end) = whole else {
        return match HEADER.as_bytes().starts_with(bytes) {
            true => Ok(Vec::new()),
            false => Err("line 1: it is not the header of a history".to_owned()),
        };
    };
    let mut lines = bytes[..end].split(|byte| *byte == b'\n').enumerate();
    if lines
        .next()
        .is_none_or(|(_, first)| first != HEADER.as_bytes())
    {
        return Err("line 1: it is not the header of a history".to_owned());
    }
    lines
        .map(|(number, line)| {
            serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", number + 1))
        })
        .collect()
}

/// Moves a damaged file aside, over an older one, so that it can be examined. Returns why the history cannot be written.
fn move_aside(path: &Path, why: &str, may_write: bool) -> Option<String> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    let shown = path.display();
    if !may_write {
        return Some(format!("the history {shown} is damaged ({why})"));
    }
    match fs::rename(path, &aside) {
        Ok(()) => {
            tracing::warn!(
                "the history {shown} is damaged ({why}) and was moved to {}; it begins empty",
                aside.display()
            );
            None
        }
        Err(error) => Some(format!(
            "the history {shown} is damaged ({why}) and cannot be moved aside: {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_another_version_or_form_is_damage_with_its_number() {
        let good = format!("{HEADER}\n{{\"s\":\"server\",\"b\":1,\"v\":{{\"u\":2}}}}\n");
        assert_eq!(parse(good.as_bytes()).unwrap().len(), 1);
        for (text, words) in [
            (
                "{\"format\":\"sanctum fleet page history\",\"version\":2}\n",
                "line 1",
            ),
            ("hello", "line 1"),
            (&format!("{good}\0\0\0\n"), "line 3"),
            (
                &format!("{good}{{\"s\":\"server\",\"b\":1,\"v\":{{\"u\":-2}}}}\n"),
                "line 3",
            ),
            (
                &format!("{good}{{\"s\":\"server\",\"b\":1,\"v\":{{\"x\":2}}}}\n"),
                "line 3",
            ),
            (&format!("{good}\n"), "line 3"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(words), "{text}: {error}");
        }
        assert_eq!(parse(b"").unwrap(), []);
        assert_eq!(parse(format!("{good}\0\0\0").as_bytes()).unwrap().len(), 1);
    }
}
