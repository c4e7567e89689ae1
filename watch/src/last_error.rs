//! The last error in a program's log, for an alert about that program.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use chrono::{DateTime, Utc};
use sanctum_config::{UntrustedText, files};
use serde_json::Value;

/// Bytes at the end of a log in which an error is looked for.
const TAIL: u64 = 64 << 10;

/// What is shown of a line, in characters.
const SHOWN: usize = 500;

/// The message of the last ERROR line at the end of a log: of the JSON and text lines that this fleet's programs write, of
/// a panic, and of the logs of other programs (`ERROR:root:…`, `ValueError: …`). With `since`, lines that were written
/// before do not count: they are a previous process's. None if there is none, or the log cannot be read.
pub fn last_error_line(log: &Path, since: Option<DateTime<Utc>>) -> Option<UntrustedText> {
    let text = tail(log).ok()?;
    let mut last = None;
    let mut is_old = false;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let entry = serde_json::from_str::<Value>(line).ok();
        let entry = entry.as_ref().and_then(Value::as_object);
        let stamp = match entry {
            Some(entry) => entry.get("timestamp").and_then(Value::as_str),
            None => line.split_whitespace().next(),
        };
        // A line without a time belongs to the one before it.
        if let Some(time) = stamp.and_then(|stamp| stamp.parse::<DateTime<Utc>>().ok()) {
            is_old = since.is_some_and(|since| time < since);
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

fn tail(log: &Path) -> io::Result<String> {
    let mut file = files::open(log)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        // The first line is the end of one.
        Some((_, rest)) if start > 0 => rest.to_owned(),
        _ => text,
    })
}

/// The message of a line as `tracing` writes it in JSON, if it is an error's.
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

/// The message of a line of text, if it is an error's.
fn of_text(line: &str, next: Option<&str>) -> Option<String> {
    let line = line.trim();
    // `thread 'main' panicked at src/main.rs:3:5:`, and what it says on the next line.
    if line.starts_with("thread '") && line.contains("' ") && line.contains(" panicked at ") {
        return Some(format!("{line} {}", next.unwrap_or_default()));
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
        let since = since.map(|since| since.parse().unwrap());
        last_error_line(&log, since).map(String::from)
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
        assert_eq!(last_error_line(folder.path(), None), None);
        assert_eq!(last_error_line(&folder.path().join("none"), None), None);
    }
}
