//! The journal of a deployment: what it turns into what, and how far it has come.
//!
//! It is written before the first change and removed after the last. Whoever finds one knows that a command was
//! interrupted. Which changes have been made is seen from the files and from launchd themselves, so that the journal
//! need only say where to go: forward once files have begun to change, back before that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sanctum_config::record::RecordError;
use sanctum_config::{atomic, files};
use sanctum_host::Receipt;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// A deployment that has begun.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Journal {
    /// `install`, `upgrade`, `rollback` or `uninstall`.
    pub command: String,
    /// When it began, in UTC as RFC 3339 has it.
    pub started: String,
    /// What was installed before; none if nothing was.
    pub from: Option<Receipt>,
    /// What is to be installed.
    pub to: Receipt,
    /// How far it has come.
    pub phase: Phase,
    /// The steps that it takes, in order.
    pub steps: Vec<String>,
    /// Those that are done.
    pub done: Vec<String>,
}

/// How far a deployment has come, as far as going on depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Agents may have been stopped; every file is as it was.
    Preparing,
    /// Files are being replaced, or have been.
    Changing,
    /// It did not do, for this reason, and is being taken back.
    TakingBack(String),
}

impl Journal {
    /// Reads it; none if no deployment has begun.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Option<Self>, Failure> {
        /// Receipts of two releases and the steps between them are far smaller.
        const LARGEST: u64 = 16 << 20;
        let bytes = match files::read_own(path, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::read(path, error)),
        };
        let read = serde_json::from_slice(&bytes).map_err(|error| RecordError::Form {
            path: path.to_owned(),
            why: error.to_string(),
        });
        Ok(Some(read?))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a journal is plain data");
        bytes.push(b'\n');
        atomic::write(path, &bytes, 0o600).map_err(|error| Failure::write(path, error))
    }

    /// What was interrupted, in one sentence.
    pub fn interruption(&self) -> String {
        let release = |receipt: &Receipt| format!("release {}", receipt.release);
        let before = self.from.as_ref().map_or("nothing".to_owned(), release);
        let now = match &self.phase {
            Phase::Preparing => "no file had been changed".to_owned(),
            Phase::Changing => "files had been changed".to_owned(),
            Phase::TakingBack(reason) => format!("it was being taken back, because {reason}"),
        };
        let next = self.steps.iter().find(|step| !self.done.contains(step));
        format!(
            "{} of {} (before: {before}), begun {}, was interrupted {}; {now}",
            self.command,
            release(&self.to),
            self.started,
            next.map_or("after its last step".to_owned(), |step| format!(
                "before its step `{step}`"
            )),
        )
    }
}

/// The boundary after a step. In debug builds the process dies here if `SANCTUM_FAULT` names the step, as if it had
/// been killed: this is how tests interrupt a command anywhere.
pub fn boundary(step: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os("SANCTUM_FAULT").is_some_and(|fault| fault == step) {
        eprintln!("SANCTUM_FAULT: dying after `{step}`");
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = step;
}

/// This moment in UTC, as RFC 3339 has it, to the second.
pub fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// One command at a time: held while a command changes this host, and released by the system however it ends.
pub struct Lock(#[expect(dead_code, reason = "held, not read")] fs::File);

impl Lock {
    /// Takes the lock of a state folder.
    ///
    /// # Errors
    /// If another command holds it, or the system refuses.
    pub fn take(state: &Path) -> Result<Self, Failure> {
        let path: PathBuf = state.join("launchd.lock");
        let failed = |error| Failure::write(&path, error);
        let file = files::open_lock(&path).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                // Whoever only looks whether a command is at work holds it for a moment.
                Err(fs::TryLockError::WouldBlock)
                    if begun.elapsed() < Duration::from_millis(500) =>
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(Failure::Refused(format!(
                        "another sanctum-launchd is at work here ({} is locked); wait until it is done",
                        path.display()
                    )));
                }
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sanctum_config::Digest;

    fn receipt(release: &str) -> Receipt {
        Receipt {
            host: "mini".parse().unwrap(),
            release: release.into(),
            previous: None,
            installed: now(),
            fleet_sha256: Digest::of(b""),
            artefacts: Vec::new(),
            agents: Vec::new(),
        }
    }

    #[test]
    fn it_tells_what_was_interrupted_and_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.json");
        assert_eq!(Journal::read(&path).unwrap(), None);
        let mut journal = Journal {
            command: "upgrade".into(),
            started: "2026-04-18T03:00:00Z".into(),
            from: Some(receipt("1")),
            to: receipt("2"),
            phase: Phase::Preparing,
            steps: vec!["bootout:server".into(), "switch".into()],
            done: vec!["bootout:server".into()],
        };
        journal.write(&path).unwrap();
        assert_eq!(Journal::read(&path).unwrap().as_ref(), Some(&journal));
        assert_eq!(
            journal.interruption(),
            "upgrade of release 2 (before: release 1), begun 2026-04-18T03:00:00Z, was interrupted before its step \
             `switch`; no file had been changed"
        );
        journal.phase = Phase::TakingBack("it answered 5".into());
        assert!(journal.interruption().ends_with("because it answered 5"));
        fs::write(&path, "{").unwrap();
        assert!(Journal::read(&path).is_err());
    }

    #[test]
    fn one_command_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::take(folder.path()).unwrap();
        assert!(Lock::take(folder.path()).is_err());
        drop(held);
        assert!(Lock::take(folder.path()).is_ok());
    }
}
