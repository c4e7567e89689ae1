//! The last error in a server's logs since the server was last healthy. An older error is about an older problem, or about
//! the release before this one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sanctum_config::UntrustedText;
use sanctum_host::{LogStart, last_error_line};
use serde::{Deserialize, Serialize};

/// The end of an agent's logs at some time: what follows it is about the outage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct LogMark {
    since: DateTime<Utc>,
    /// Each log's inode and length.
    logs: Vec<(PathBuf, u64, u64)>,
}

impl LogMark {
    /// The present end of these logs.
    pub(crate) fn at_end(logs: &[PathBuf], since: DateTime<Utc>) -> Self {
        let end = |log: &PathBuf| {
            let about = std::fs::metadata(log).ok()?;
            Some((log.clone(), about.ino(), about.len()))
        };
        Self {
            since,
            logs: logs.iter().filter_map(end).collect(),
        }
    }

    /// The last error after this mark, in the first of the logs that has one.
    pub(crate) fn last_error(&self, logs: &[PathBuf]) -> Option<UntrustedText> {
        let find = |log: &PathBuf| {
            let start = LogStart {
                time: Some(self.since),
                offset: self.offset(log),
            };
            last_error_line(log, start)
        };
        logs.iter().find_map(find)
    }

    /// The offset of this mark in a log. Another file of that name, or one that was truncated, is younger than the mark: 0.
    fn offset(&self, log: &Path) -> u64 {
        let marked = self.logs.iter().find(|(path, ..)| path == log);
        let about = std::fs::metadata(log).ok();
        match (marked, about) {
            (Some((_, inode, length)), Some(about))
                if *inode == about.ino() && *length <= about.len() =>
            {
                *length
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;

    use super::*;

    fn append(log: &Path, line: &str) {
        let mut file = File::options().append(true).create(true).open(log).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    #[test]
    fn excerpt_is_the_last_error_since_the_server_was_healthy() {
        let folder = tempfile::tempdir().unwrap();
        let logs = ["server.log", "server.launchd.log"].map(|name| folder.path().join(name));
        let [log, launchd] = &logs;
        assert_eq!(LogMark::default().last_error(&logs), None);
        append(log, "error: of the release before this one");
        append(
            log,
            r#"{"timestamp":"2026-11-30T09:00:00Z","level":"ERROR","message":"before"}"#,
        );
        let mark = LogMark::at_end(&logs, "2026-11-30T10:00:00Z".parse().unwrap());
        let last = || mark.last_error(&logs).map(String::from);
        assert_eq!(last(), None, "nothing has happened since");
        append(log, "loading 7 of 9");
        append(launchd, "dyld: fatal: no such library");
        append(launchd, "error: cannot read fleet.toml");
        assert_eq!(last().unwrap(), "error: cannot read fleet.toml");
        append(
            log,
            r#"{"timestamp":"2026-11-30T10:00:01Z","level":"ERROR","message":"layer 7 is missing"}"#,
        );
        assert_eq!(last().unwrap(), "layer 7 is missing");
        // The log is rotated.
        fs::rename(log, folder.path().join("server.log.1")).unwrap();
        append(log, "error: after rotation");
        assert_eq!(last().unwrap(), "error: after rotation");
    }
}
