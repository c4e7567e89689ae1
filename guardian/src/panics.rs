//! Kernel panics. macOS restarts after one and writes a report; no other check would report that the host went down, or why.
//!
//! Each panic is reported once, ever. Panics before the first round after the installation are not reported.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sanctum_config::{Label, UntrustedText, files, quoted_file};
use sanctum_watch::Notice;
use sanctum_watch::alert::{AlertText, Severity};
use serde::{Deserialize, Serialize};

/// Where macOS writes them.
#[cfg(target_os = "macos")]
const FOLDER: Option<&str> = Some("/Library/Logs/DiagnosticReports");
#[cfg(not(target_os = "macos"))]
const FOLDER: Option<&str> = None;

/// The bytes that are read of a report: the panic string is near its beginning.
const READ: u64 = 256 << 10;
/// Reports in one alert; the rest are counted.
const SHOWN: usize = 5;
/// An empty report that is younger than this is still being written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// The reports that are known, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Known(Option<BTreeSet<String>>);

/// The folder in which this system writes reports, if it does.
pub(crate) fn default_folder() -> Option<PathBuf> {
    FOLDER.map(PathBuf::from)
}

impl Known {
    /// The alert about the reports that are new since the last round.
    ///
    /// # Errors
    /// If the folder cannot be read. A folder that does not exist has no reports.
    pub(crate) fn new_ones(
        &mut self,
        folder: &Path,
        host: &Label,
    ) -> std::io::Result<Option<Notice>> {
        let found = reports(folder)?;
        let Some(known) = &mut self.0 else {
            self.0 = Some(found);
            return Ok(None);
        };
        let mut lines = Vec::new();
        for name in found {
            if !known.contains(&name)
                && let Some(line) = first_line(&folder.join(&name))
            {
                lines.push(format!("{}: {line}", UntrustedText::new(&name)));
                known.insert(name);
            }
        }
        let Some(newest) = lines.len().checked_sub(1) else {
            return Ok(None);
        };
        let mut body = lines[newest.saturating_sub(SHOWN - 1)..].join("\n");
        if lines.len() > SHOWN {
            body.push_str(&format!("\nand {} more", lines.len() - SHOWN));
        }
        Ok(Some(Notice::Event {
            key: "panic",
            text: AlertText {
                severity: Severity::Critical,
                title: match lines.len() {
                    1 => format!("{host} restarted after a kernel panic"),
                    count => format!("{host} restarted after {count} kernel panics"),
                },
                body,
                next: format!("ls -lt {}", quoted_file(folder)),
            },
        }))
    }
}

fn reports(folder: &Path) -> std::io::Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let names = entries
        .map(name)
        .collect::<std::io::Result<BTreeSet<_>>>()?;
    Ok(names
        .into_iter()
        .filter(|name| name.ends_with(".panic"))
        .collect())
}

/// A report's first line, and where that is only JSON's header, the panic's own first line after it. None while it is
/// still being written.
fn first_line(report: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let read = files::open(report).and_then(|file| {
        let written = file.metadata()?.modified()?;
        file.take(READ).read_to_end(&mut bytes)?;
        Ok(written)
    });
    let written = match read {
        Ok(written) => written,
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    let text = String::from_utf8_lossy(&bytes);
    let Some(first) = text.lines().map(str::trim).find(|line| !line.is_empty()) else {
        let is_young = written.elapsed().is_ok_and(|age| age < WRITTEN_WITHIN);
        return (!is_young).then(|| "it is empty".to_owned());
    };
    let shown = |text: &str| UntrustedText::bounded(text, 300).to_string();
    Some(match panic_string(&text) {
        Some(panic) if first.starts_with('{') => format!("{} {}", shown(first), shown(panic)),
        _ => shown(first),
    })
}

/// The first line of `"panicString" : "panic(cpu 4 caller 0xfffffe00…): \"completeMemory() …\\n…"`.
fn panic_string(report: &str) -> Option<&str> {
    let (_, rest) = report
        .split_once("\"panicString\"")
        .or_else(|| report.split_once("\"macOSPanicString\""))?;
    let (_, text) = rest.split_once('"')?;
    text.split("\\n").next()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const REPORT: &str = "{\"bug_type\":\"210\",\"os_version\":\"macOS 15.1 (24B83)\"}\n{\n  \"product\" : \"Mac16,10\",\n  \
        \"panicString\" : \"panic(cpu 2 caller 0xfffffe00): completeMemory() prepare count underflow @IOGPUMemory.cpp:550\\nDebugger\"\n}";

    fn notice(known: &mut Known, folder: &Path) -> Option<AlertText> {
        match known.new_ones(folder, &"mini".parse().unwrap()).unwrap()? {
            Notice::Event { key: "panic", text } => Some(text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn panic_is_reported_once_ever_and_an_old_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("panic-full-2026-01-01.panic"), "an old one").unwrap();
        let mut known = Known::default();
        assert_eq!(
            notice(&mut known, folder.path()),
            None,
            "older than the guardian"
        );
        fs::write(path("panic-full-2026-11-30.panic"), REPORT).unwrap();
        fs::write(path("sanctum-server.crash"), "of a program").unwrap();
        let text = notice(&mut known, folder.path()).unwrap();
        assert_eq!(text.title, "mini restarted after a kernel panic");
        let beginning = "panic-full-2026-11-30.panic: {\"bug_type\":\"210\"";
        assert!(text.body.starts_with(beginning), "{}", text.body);
        assert!(
            text.body
                .ends_with("prepare count underflow @IOGPUMemory.cpp:550"),
            "{}",
            text.body
        );
        // Neither after a restart of the guardian, nor when the report reappears.
        let state = serde_json::to_string(&known).unwrap();
        let mut known: Known = serde_json::from_str(&state).unwrap();
        assert_eq!(notice(&mut known, folder.path()), None);
        fs::remove_file(path("panic-full-2026-11-30.panic")).unwrap();
        assert_eq!(notice(&mut known, folder.path()), None);
        fs::write(path("panic-full-2026-11-30.panic"), REPORT).unwrap();
        assert_eq!(notice(&mut known, folder.path()), None);
    }

    #[test]
    fn panic_reports_of_any_content_are_reported_and_none_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = Known::default();
        assert_eq!(notice(&mut known, &folder.path().join("absent")), None);
        assert_eq!(notice(&mut Known::default(), folder.path()), None);
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.panic"), "\n\u{1b}]0;owned\u{7} first\nsecond").unwrap();
        fs::write(path("b.panic"), "").unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(path("c.panic"))
            .status();
        assert!(made.unwrap().success());
        let text = notice(&mut known, folder.path()).unwrap();
        assert_eq!(text.title, "mini restarted after 2 kernel panics");
        let lines: Vec<&str> = text.body.lines().collect();
        assert_eq!(lines[0], r"a.panic: \u{1b}]0;owned\u{7} first");
        assert!(
            lines[1].starts_with("c.panic: cannot be read: it is a FIFO"),
            "{}",
            lines[1]
        );
        // The empty one is reported when it is written.
        fs::write(path("b.panic"), "panic(cpu 0)").unwrap();
        assert_eq!(
            notice(&mut known, folder.path()).unwrap().body,
            "b.panic: panic(cpu 0)"
        );
        for number in 0..9 {
            fs::write(path(&format!("d{number}.panic")), "p").unwrap();
        }
        let text = notice(&mut known, folder.path()).unwrap();
        assert!(
            text.body.ends_with("d8.panic: p\nand 4 more"),
            "{}",
            text.body
        );
    }
}
