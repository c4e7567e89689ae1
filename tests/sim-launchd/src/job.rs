//! A job as its plist described it at bootstrap.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plist::{Dictionary, Value};

/// Keys that `launchd.plist(5)` has, including those that the daemon ignores.
const KNOWN: &[&str] = &[
    "AbandonProcessGroup",
    "AssociatedBundleIdentifiers",
    "BundleProgram",
    "CarbonFramework",
    "Debug",
    "Disabled",
    "EnableGlobbing",
    "EnablePressuredExit",
    "EnableTransactions",
    "EnvironmentVariables",
    "ExitTimeOut",
    "GroupName",
    "HardResourceLimits",
    "HopefullyExitsFirst",
    "HopefullyExitsLast",
    "InitGroups",
    "KeepAlive",
    "Label",
    "LaunchEvents",
    "LaunchOnlyOnce",
    "LegacyTimers",
    "LimitLoadFromHosts",
    "LimitLoadToHardware",
    "LimitLoadToHosts",
    "LimitLoadToSessionType",
    "LowPriorityBackgroundIO",
    "LowPriorityIO",
    "MachServices",
    "MaterializeDatalessFiles",
    "Nice",
    "OnDemand",
    "ProcessType",
    "Program",
    "ProgramArguments",
    "QueueDirectories",
    "RootDirectory",
    "RunAtLoad",
    "ServiceIPC",
    "SessionCreate",
    "Sockets",
    "SoftResourceLimits",
    "StandardErrorPath",
    "StandardInPath",
    "StandardOutPath",
    "StartCalendarInterval",
    "StartInterval",
    "StartOnMount",
    "ThrottleInterval",
    "TimeOut",
    "Umask",
    "UserName",
    "WaitForDebugger",
    "WatchPaths",
    "WorkingDirectory",
    "inetdCompatibility",
];

/// When a job that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Never.
    No,
    /// Always.
    Always,
    /// After some exits only.
    If {
        /// After exit code 0 (true) or any other end (false).
        successful_exit: Option<bool>,
        /// After a signal that means a crash (true), or after any other end (false).
        crashed: Option<bool>,
    },
}

/// A job, as of its bootstrap.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name in the domain.
    pub label: String,
    /// The file it came from.
    pub path: PathBuf,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments, its own name first.
    pub arguments: Vec<String>,
    /// Start it at bootstrap.
    pub run_at_load: bool,
    /// Start it again.
    pub keep_alive: KeepAlive,
    /// The minimum time from one start to the next.
    pub throttle: Duration,
    /// From SIGTERM to SIGKILL.
    pub exit_timeout: Duration,
    /// Where its standard output goes.
    pub out: Option<PathBuf>,
    /// Where its standard error goes.
    pub err: Option<PathBuf>,
    /// Its working directory.
    pub folder: Option<PathBuf>,
    /// Additional environment variables.
    pub environment: BTreeMap<String, String>,
    /// Soft and hard limit of open files.
    pub files: (Option<u64>, Option<u64>),
    /// Keys that launchd.plist(5) does not have.
    pub unknown: Vec<String>,
}

/// A character of an XML plist that XML 1.0 does not have: Apple's parser refuses the file, and the crate `plist` does not.
fn no_xml(bytes: &[u8]) -> Option<char> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_xml = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let xml = text.strip_prefix("<?xml")?;
    xml.chars().find(|c| !is_xml(c))
}

impl Job {
    /// Reads a plist.
    ///
    /// # Errors
    /// A message, where launchd would refuse it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
        if let Some(c) = no_xml(&bytes) {
            return Err(failed(&format!(
                "U+{:04X} is no XML character",
                u32::from(c)
            )));
        }
        let value = Value::from_reader(Cursor::new(bytes)).map_err(|error| failed(&error))?;
        let keys = value
            .into_dictionary()
            .ok_or("the plist is no dictionary")?;
        let text = |key: &str| keys.get(key).and_then(Value::as_string).map(str::to_owned);
        let strings = |key: &str| -> Vec<String> {
            let array = keys.get(key).and_then(Value::as_array);
            array
                .into_iter()
                .flatten()
                .filter_map(|value| value.as_string().map(str::to_owned))
                .collect()
        };
        let seconds = |key: &str, usual| {
            let given = keys.get(key).and_then(Value::as_unsigned_integer);
            Duration::from_secs(given.unwrap_or(usual))
        };
        let label = text("Label")
            .filter(|label| !label.is_empty())
            .ok_or("no Label")?;
        let mut arguments = strings("ProgramArguments");
        let program = match text("Program").or_else(|| arguments.first().cloned()) {
            Some(program) => PathBuf::from(program),
            None => return Err("neither Program nor ProgramArguments".into()),
        };
        if arguments.is_empty() {
            arguments.push(program.display().to_string());
        }
        let limit = |key: &str| {
            let limits = keys.get(key).and_then(Value::as_dictionary)?;
            limits.get("NumberOfFiles")?.as_unsigned_integer()
        };
        let environment = keys
            .get("EnvironmentVariables")
            .and_then(Value::as_dictionary);
        Ok(Self {
            label,
            path: path.to_owned(),
            program,
            arguments,
            run_at_load: keys.get("RunAtLoad").and_then(Value::as_boolean) == Some(true),
            keep_alive: keep_alive(&keys),
            throttle: seconds("ThrottleInterval", 10),
            exit_timeout: seconds("ExitTimeOut", 20),
            out: text("StandardOutPath").map(PathBuf::from),
            err: text("StandardErrorPath").map(PathBuf::from),
            folder: text("WorkingDirectory").map(PathBuf::from),
            environment: environment
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), value.as_string()?.to_owned())))
                .collect(),
            files: (limit("SoftResourceLimits"), limit("HardResourceLimits")),
            unknown: keys
                .keys()
                .filter(|key| !KNOWN.contains(&key.as_str()))
                .cloned()
                .collect(),
        })
    }

    /// Whether it starts as soon as it is bootstrapped.
    pub fn starts_at_once(&self) -> bool {
        self.run_at_load || self.keep_alive == KeepAlive::Always
    }

    /// Whether it starts again after such an exit. A crash is an exit by one of the signals that a program's fault raises.
    pub fn comes_back(&self, code: Option<i32>, signal: Option<i32>) -> bool {
        // SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGBUS (Linux and macOS), SIGSEGV, SIGSYS.
        let crash = signal.is_some_and(|signal| [4, 5, 6, 7, 8, 10, 11, 12, 31].contains(&signal));
        match self.keep_alive {
            KeepAlive::No => false,
            KeepAlive::Always => true,
            KeepAlive::If {
                successful_exit,
                crashed,
            } => {
                successful_exit.is_some_and(|wanted| wanted == (code == Some(0)))
                    || crashed.is_some_and(|wanted| wanted == crash)
            }
        }
    }
}

fn keep_alive(keys: &Dictionary) -> KeepAlive {
    match keys.get("KeepAlive") {
        Some(Value::Boolean(true)) => KeepAlive::Always,
        Some(Value::Dictionary(conditions)) => {
            let condition = |key| conditions.get(key).and_then(Value::as_boolean);
            KeepAlive::If {
                successful_exit: condition("SuccessfulExit"),
                crashed: condition("Crashed"),
            }
        }
        _ => KeepAlive::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plist_with_a_character_that_xml_does_not_have_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.plist");
        let read = |label: &str| {
            let text = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>\
                 <key>Label</key><string>{label}</string><key>Program</key><string>/bin/true</string>\
                 </dict></plist>\n"
            );
            std::fs::write(&path, text).unwrap();
            Job::read(&path)
        };
        assert_eq!(read("a").unwrap().label, "a");
        let error = read("a\u{1}").unwrap_err();
        assert!(error.ends_with("U+0001 is no XML character"), "{error}");
    }
}
