//! Parsers of the output of `launchctl`. The formats are known from public transcripts of the real tool (macOS 12 to 26):
//! issue threads, blog posts and the tests of other projects that watch agents.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// A loaded service, as `launchctl print gui/<uid>/<label>` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Service {
    /// `running`, `not running`, `spawn scheduled`, `xpcproxy` (about to run) and others; empty if it is missing.
    pub state: String,
    /// Its process, while it has one.
    pub pid: Option<u32>,
    /// How often launchd has started it since it was loaded.
    pub runs: Option<u64>,
    /// How its last process ended.
    pub last_exit: Option<LastExit>,
    /// From SIGTERM to SIGKILL, as launchd applies it; 0 is no limit.
    pub exit_timeout: Option<Duration>,
    /// Its executable.
    pub program: Option<PathBuf>,
    /// Its argv, with the program, as it was when the service was loaded.
    pub arguments: Vec<String>,
    /// The property list that it was loaded from.
    pub plist: Option<PathBuf>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LastExit {
    /// No process has ended since the service was loaded.
    Never,
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// A line of `launchctl list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its process, while it has one.
    pub pid: Option<u32>,
    /// The last exit code, or the negative number of the signal that ended it.
    pub status: i32,
    /// launchd's label.
    pub label: String,
}

impl Service {
    /// Whether it has a process.
    pub fn is_running(&self) -> bool {
        self.pid.is_some()
    }
}

impl std::fmt::Display for LastExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never => f.write_str("it has never exited"),
            Self::Code(code) => write!(f, "it exited with code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal} ended it"),
        }
    }
}

/// Parses `print`. The output is a block in braces with one tab per level: `key = value`, and blocks `key = {` … `}`. Only
/// the first level is used: nested blocks have keys of the same names, such as `state` and `pid`.
pub(super) fn service(text: &str) -> Service {
    let mut service = Service::default();
    let mut lines = text.lines();
    // The first line: `gui/501/com.example.agent = {`.
    lines.by_ref().find(|line| line.trim_end().ends_with('{'));
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.trim().split_once(" = ") else {
            continue;
        };
        if value == "{" {
            let indent = &line[..line.len() - line.trim_start().len()];
            let block = lines
                .by_ref()
                .take_while(|line| line.strip_prefix(indent).map(str::trim_end) != Some("}"));
            // Every block is consumed, so that its keys are skipped.
            let block: Vec<String> = block.map(|line| unindented(line, indent)).collect();
            if key == "arguments" {
                service.arguments = block;
            }
            continue;
        }
        match key {
            "state" => service.state = value.to_owned(),
            "path" => service.plist = Some(PathBuf::from(value)),
            "program" => service.program = Some(PathBuf::from(value)),
            "pid" => service.pid = value.parse().ok(),
            "exit timeout" => {
                service.exit_timeout = value.parse().ok().map(Duration::from_secs);
            }
            "runs" => service.runs = value.parse().ok(),
            "last exit code" if service.last_exit.is_none() => service.last_exit = exit_code(value),
            // If both lines are present, the signal is the cause.
            "last terminating signal" => service.last_exit = signal(value).or(service.last_exit),
            _ => {}
        }
    }
    service
}

/// A line of a block without the block's indentation. Arguments may begin with blanks.
fn unindented(line: &str, indent: &str) -> String {
    let inner = line.strip_prefix(indent).unwrap_or(line);
    inner
        .strip_prefix('\t')
        .unwrap_or(inner.trim_start())
        .to_owned()
}

/// `0`, `78: EX_CONFIG`, `(never exited)`.
fn exit_code(value: &str) -> Option<LastExit> {
    if value == "(never exited)" {
        return Some(LastExit::Never);
    }
    let number = value.split(':').next()?.trim();
    number.parse().ok().map(LastExit::Code)
}

/// `Killed: 9`, `Segmentation fault: 11`.
fn signal(value: &str) -> Option<LastExit> {
    let number = value.rsplit(':').next()?.trim();
    number.parse().ok().map(LastExit::Signal)
}

/// Parses `list`: three columns separated by tabs, `PID Status Label`; `-` for no process.
pub(super) fn list(text: &str) -> Vec<Listed> {
    text.lines()
        .filter_map(|line| {
            let mut columns = line.splitn(3, '\t').map(str::trim);
            let pid = columns.next()?;
            let status = columns.next()?.parse().ok()?;
            let label = columns.next().filter(|label| !label.is_empty())?.to_owned();
            let pid = match pid {
                "-" => None,
                pid => Some(pid.parse().ok()?),
            };
            Some(Listed { pid, status, label })
        })
        .collect()
}

/// Parses `print-disabled`: lines `"label" => disabled` (`true` before macOS 13) or `enabled` (`false`), in a block
/// `disabled services = {`. Blocks after it, such as `login item associations`, are skipped.
pub(super) fn disabled(text: &str) -> BTreeMap<String, bool> {
    text.lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with("disabled services"))
        .skip(1)
        .take_while(|line| *line != "}")
        .filter_map(|line| {
            let (label, value) = line.split_once("=>")?;
            let disabled = match value.trim() {
                "disabled" | "true" => true,
                "enabled" | "false" => false,
                _ => return None,
            };
            Some((label.trim().trim_matches('"').to_owned(), disabled))
        })
        .collect()
}
