//! The last error in a program's log, for an alert or a message about that program.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use chrono::{DateTime, Utc};
use sanctum_config::{UntrustedText, files};
use serde_json::Value;

/// Bytes at the end of a log that are searched.
const TAIL: u64 = 64 << 10;

/// Characters of a line that are shown.
const SHOWN: usize = 500;

/// Where the relevant part of a log starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// Lines that were written before this time do not count: a previous process wrote them.
    pub time: Option<DateTime<Utc>>,
    /// Lines that begin before this many bytes count only if their own time is not before `time`.
    pub offset: u64,
}

/// The message of the last ERROR line at the end of a log. It recognizes the JSON and text lines of this fleet's programs,
/// panics, and errors in the logs of other programs (`ERROR:root:…`, `ValueError: …`). None if there is none since `start`,
/// or the log cannot be read.
pub fn last_error_line(log: &Path, start: LogStart) -> Option<UntrustedText> {
    let (mut offset, text) = tail(log).ok()?;
    let mut last = None;
    let mut is_old = true;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if offset <= start.offset {
            is_old = offset < start.offset;
        }
        offset += line.len() as u64;
        let entry = serde_json::from_str::<Value>(line).ok();
        let entry = entry.as_ref().and_then(Value::as_object);
        let stamp = match entry {
            Some(entry) => entry.get("timestamp").and_then(Value::as_str),
            None => line.split_whitespace().next(),
        };
        // A line without a time belongs to the previous line.
        if let Some(time) = stamp.and_then(|stamp| stamp.parse::<DateTime<Utc>>().ok()) {
            is_old = start.time.is_some_and(|start| time < start);
        }
        if is_old {
            continue;
        }
        let error = match entry {
            Some(entry) => of_entry(entry),
            None => of_text(line, lines.peek().copied()),
        };
        last = error.or(last);
    }
    last.map(|line| UntrustedText::bounded(line.trim(), SHOWN))
}

/// The last line of a log that is not empty and begins at `offset` or later. None if there is none, or the log cannot be
/// read.
pub fn last_line(log: &Path, offset: u64) -> Option<UntrustedText> {
    let (mut at, text) = tail(log).ok()?;
    let mut last = None;
    for line in text.split_inclusive('\n') {
        if at >= offset && !line.trim().is_empty() {
            last = Some(line);
        }
        at += line.len() as u64;
    }
    last.map(|line| UntrustedText::bounded(line.trim(), SHOWN))
}

/// The end of a log, and where it begins.
fn tail(log: &Path) -> io::Result<(u64, String)> {
    let mut file = files::open(log)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let first = match bytes.iter().position(|byte| *byte == b'\n') {
        // The first line is incomplete.
        Some(end) if start > 0 => end + 1,
        _ => 0,
    };
    let text = String::from_utf8_lossy(&bytes[first..]).into_owned();
    Ok((start + first as u64, text))
}

/// The message of a JSON line of `tracing`, if its level is ERROR.
fn of_entry(entry: &serde_json::Map<String, Value>) -> Option<String> {
    let level = entry.get("level")?.as_str()?;
    if !level.eq_ignore_ascii_case("error") {
        return None;
    }
    let field = |name: &str| entry.get(name).and_then(Value::as_str);
    Some(match (field("message"), field("error")) {
        (Some(message), Some(error)) => format!("{message}: {error}"),
        (Some(message), None) => message.to_owned(),
        (None, _) => Value::Object(entry.clone()).to_string(),
    })
}

/// The message of a line of text, if it is an error.
fn of_text(line: &str, next: Option<&str>) -> Option<String> {
    let line = line.trim();
    // `thread 'main' panicked at src/main.rs:3:5:`, with the message on the next line.
    if line.starts_with("thread '") && line.contains("' ") && line.contains(" panicked at ") {
        return Some(format!("{line} {}", next.unwrap_or_default().trim()));
    }
    let (head, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if head.parse::<DateTime<Utc>>().is_ok() {
        // `2026-11-30T10:00:00.000000Z ERROR message`
        return rest.trim_start().strip_prefix("ERROR ").map(str::to_owned);
    }
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    let mut words = words.filter(|word| !word.is_empty()).take(16);
    // `ERROR:root:message`, `[2026-11-30 10:00:00 +0000] [7] [ERROR] message`
    let is_marked = words.any(|word| matches!(word, "ERROR" | "CRITICAL" | "FATAL"));
    // `error: message`, `ValueError: message`, `mlx.core.OutOfMemoryError: message`
    let kind = head.strip_suffix(':').unwrap_or_default();
    let is_named = ["Error", "Exception", "error", "fatal"]
        .iter()
        .any(|end| kind.ends_with(end));
    (is_marked || is_named).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn last(text: &str) -> Option<String> {
        since(text, None)
    }

    fn since(text: &str, since: Option<&str>) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("server.log");
        fs::write(&log, text).unwrap();
        let start = LogStart {
            time: since.map(|since| since.parse().unwrap()),
            offset: 0,
        };
        last_error_line(&log, start).map(String::from)
    }

    const JSON: &str = r#"{"timestamp":"2026-11-30T10:00:00.000000Z","level":"INFO","message":"ERROR is only a word here","target":"sanctum_server"}
{"timestamp":"2026-11-30T10:00:01.000000Z","level":"ERROR","message":"cannot bind 127.0.0.1:1337","error":"Address already in use","target":"sanctum_server"}
{"timestamp":"2026-11-30T10:00:02.000000Z","level":"WARN","message":"stopping","target":"sanctum_server"}
"#;

    #[test]
    fn last_error_line_of_json_and_text_logs_is_the_message() {
        let bind = "cannot bind 127.0.0.1:1337: Address already in use";
        assert_eq!(last(JSON).as_deref(), Some(bind));
        let text = "2026-11-30T10:00:00.000000Z ERROR the model is damaged file=\"a\"\n\
                    2026-11-30T10:00:01.000000Z  INFO no error here: ERROR\n";
        assert_eq!(
            last(text).as_deref(),
            Some("the model is damaged file=\"a\"")
        );
        assert_eq!(last(""), None);
        assert_eq!(last("2026-11-30T10:00:01.000000Z  WARN slow\n"), None);
    }

    #[test]
    fn last_error_line_of_panics_and_other_programs_is_found() {
        let panic = "\nthread 'main' (77) panicked at server/src/main.rs:3:5:\nno model\nnote: run with RUST_BACKTRACE=1\n";
        assert_eq!(
            last(&format!("{JSON}{panic}")).as_deref(),
            Some("thread 'main' (77) panicked at server/src/main.rs:3:5: no model")
        );
        for line in [
            "ERROR:root:no such model",
            "[2026-11-30 10:00:00 +0000] [7] [ERROR] worker failed",
            "ValueError: Model type qwen9 not supported.",
            "error: unexpected argument '--prot' found",
        ] {
            let text = format!("INFO: starting\n  {line}\nINFO: stopped, 0 errors\n");
            assert_eq!(last(&text).as_deref(), Some(line));
        }
        assert_eq!(last("INFO: the error rate is 0\nerrors 0\n"), None);
    }

    #[test]
    fn last_error_line_of_a_previous_process_does_not_count() {
        let after = |time| since(JSON, Some(time));
        assert!(after("2026-11-30T10:00:01Z").is_some());
        assert_eq!(after("2026-11-30T10:00:02Z"), None);
        let panic = format!("{JSON}thread 'main' (7) panicked at a.rs:1:1:\nno\n");
        assert_eq!(since(&panic, Some("2026-11-30T11:00:00Z")), None);
        assert!(since(&panic, Some("2026-11-30T10:00:02Z")).is_some());
    }

    #[test]
    fn last_error_line_without_a_time_counts_from_the_offset() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("server.log");
        let old = format!("ERROR:root:old\n{JSON}");
        fs::write(&log, format!("{old}ERROR:root:new\nfine\n")).unwrap();
        let start = |time: &str, offset| LogStart {
            time: Some(time.parse().unwrap()),
            offset,
        };
        let (bytes, late) = (old.len() as u64, "2026-11-30T11:00:00Z");
        let said = |start| last_error_line(&log, start).map(String::from);
        assert_eq!(said(start(late, bytes)).as_deref(), Some("ERROR:root:new"));
        assert_eq!(said(start(late, bytes + 15)), None);
        // Lines with a time need no offset.
        fs::write(&log, &old).unwrap();
        let bind = "cannot bind 127.0.0.1:1337: Address already in use";
        let early = "2026-11-30T09:00:00Z";
        assert_eq!(said(start(early, bytes)).as_deref(), Some(bind));
        assert_eq!(said(start(late, bytes)), None);
    }

    #[test]
    fn last_line_is_after_the_offset_and_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("server.log");
        fs::write(&log, "old\nnew\x1b\n\n").unwrap();
        let said = |offset| last_line(&log, offset).map(String::from);
        assert_eq!(said(0).as_deref(), Some(r"new\u{1b}"));
        assert_eq!(said(4).as_deref(), Some(r"new\u{1b}"));
        assert_eq!(said(5), None);
        assert_eq!(last_line(&folder.path().join("none"), 0), None);
    }

    #[test]
    fn last_error_line_reads_a_bounded_tail_and_shows_safe_text() {
        let early = "ERROR:root:long ago\n";
        let rest = "INFO: fine\n".repeat(7_000);
        assert_eq!(last(&format!("{early}{rest}")), None);
        let long = format!("ERROR \x1b]0;title\x07{}\n", "x".repeat(10_000));
        let shown = last(&long).unwrap();
        assert!(
            shown.starts_with(r"ERROR \u{1b}]0;title\u{7}xxx"),
            "{shown}"
        );
        assert!(shown.len() < 700, "{}", shown.len());
        let folder = tempfile::tempdir().unwrap();
        let start = LogStart::default();
        assert_eq!(last_error_line(folder.path(), start), None);
        assert_eq!(last_error_line(&folder.path().join("none"), start), None);
    }
}
