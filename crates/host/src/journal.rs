//! The journal of a deployment: what it changes into what, and how far it has come.
//!
//! It is written before the first change and removed after the last one, so a journal without a running command means that
//! a command was interrupted. The state of files and of launchd shows which changes have been made; the journal only says
//! in which direction to continue: forward once files have begun to change, back before that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sanctum_config::record::{self, RecordError};
use sanctum_config::{FileLock, Home};
use serde::{Deserialize, Serialize};

use crate::{Artefact, Finding, FindingKind, Receipt};

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
    pub progress: JournalProgress,
    /// The steps of the plan, in order.
    pub steps: Vec<String>,
    /// The steps that are done.
    pub done: Vec<String>,
}

/// How far a deployment has come, as far as the direction depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalProgress {
    /// Agents may have been stopped; no file has changed.
    Preparing,
    /// Files are being replaced, or have been.
    Changing,
    /// It failed, for this reason, and is being rolled back.
    RollingBack(String),
}

impl Journal {
    /// Reads it; none if no deployment has begun.
    ///
    /// # Errors
    /// If it cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        record::read(path)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        record::write(path, self)
    }

    /// What was interrupted, in one sentence.
    pub fn interruption(&self) -> String {
        let release = |receipt: &Receipt| format!("release {}", receipt.release);
        let before = self.from.as_ref().map_or("nothing".to_owned(), release);
        let progress = match &self.progress {
            JournalProgress::Preparing => "no file had been changed".to_owned(),
            JournalProgress::Changing => "files had been changed".to_owned(),
            JournalProgress::RollingBack(reason) => {
                format!("it was being rolled back, because {reason}")
            }
        };
        let next = self.steps.iter().find(|step| !self.done.contains(step));
        format!(
            "{} of {} (before: {before}), started {}, was interrupted {}; {progress}",
            self.command,
            release(&self.to),
            self.started,
            next.map_or("after its last step".to_owned(), |step| format!(
                "before its step `{step}`"
            )),
        )
    }

    /// Whether the interruption alone explains a finding: a file that the deployment replaces, or an agent that it stops
    /// or starts. The next command puts these in order, so they are not problems of their own.
    pub fn explains(&self, finding: &Finding) -> bool {
        match finding.kind {
            FindingKind::Missing
            | FindingKind::Changed
            | FindingKind::Mode
            | FindingKind::UnknownPlist => {
                let mut paths = self.replaced_files().into_iter();
                paths.any(|path| path.display().to_string() == finding.subject)
            }
            FindingKind::NotLoaded
            | FindingKind::Loaded
            | FindingKind::Disabled
            | FindingKind::StaleArguments
            | FindingKind::NotRunning
            | FindingKind::OldProgram => {
                let receipts = self.from.iter().chain([&self.to]);
                let mut agents = receipts.flat_map(|receipt| &receipt.agents);
                agents.any(|agent| {
                    let is_step = |step: &String| {
                        let name = step.split_once(':').map(|(_, name)| name);
                        name == Some(agent.name.as_str())
                    };
                    agent.label == finding.subject && self.steps.iter().any(is_step)
                })
            }
            FindingKind::NotInstalled
            | FindingKind::Active
            | FindingKind::Release
            | FindingKind::Undeployed
            | FindingKind::Lease => true,
            _ => false,
        }
    }

    /// The files that differ between the two receipts.
    fn replaced_files(&self) -> BTreeSet<PathBuf> {
        let before = self.from.iter().flat_map(|receipt| &receipt.artefacts);
        let before: Vec<&Artefact> = before.collect();
        let after: Vec<&Artefact> = self.to.artefacts.iter().collect();
        let only = |these: &[&Artefact], those: &[&Artefact]| -> Vec<PathBuf> {
            let differing = these.iter().filter(|artefact| !those.contains(artefact));
            differing.map(|artefact| artefact.path.clone()).collect()
        };
        let differing = [only(&before, &after), only(&after, &before)];
        differing.into_iter().flatten().collect()
    }
}

/// The lock that a command holds while it changes this host.
pub fn command_lock(home: &Home) -> PathBuf {
    home.state().join("launchd.lock")
}

/// Whether a command changes this host now.
pub fn is_command_running(home: &Home) -> bool {
    FileLock::is_held(&command_lock(home))
}

/// This moment in UTC, as RFC 3339 has it, to the second: the form of the times in receipts and journals.
pub fn timestamp() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use sanctum_config::Digest;

    use super::*;
    use crate::{ArtefactKind, InstalledAgent};

    fn receipt(release: &str) -> Receipt {
        let artefact = |name: &str, contents: &str| Artefact {
            path: format!("/h/{name}").into(),
            sha256: Digest::of(contents.as_bytes()),
            mode: 0o644,
            kind: ArtefactKind::Binary,
        };
        Receipt {
            host: "mini".parse().unwrap(),
            release: release.into(),
            previous: None,
            installed: "2026-04-18T03:00:00Z".into(),
            fleet_sha256: Digest::of(b""),
            artefacts: vec![artefact("server", release), artefact("same", "same")],
            agents: ["server", "hatch"]
                .map(|name| InstalledAgent {
                    name: name.parse().unwrap(),
                    label: format!("com.sanctum.{name}"),
                    plist: format!("/p/{name}.plist").into(),
                    enabled: true,
                })
                .to_vec(),
        }
    }

    fn journal() -> Journal {
        Journal {
            command: "upgrade".into(),
            started: "2026-04-18T03:00:00Z".into(),
            from: Some(receipt("1")),
            to: receipt("2"),
            progress: JournalProgress::Preparing,
            steps: vec!["bootout:server".into(), "switch".into()],
            done: vec!["bootout:server".into()],
        }
    }

    #[test]
    fn journal_is_read_as_it_was_written_and_names_the_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/journal.json");
        assert_eq!(Journal::read(&path).unwrap(), None);
        let mut journal = journal();
        journal.write(&path).unwrap();
        assert_eq!(Journal::read(&path).unwrap().as_ref(), Some(&journal));
        assert_eq!(
            journal.interruption(),
            "upgrade of release 2 (before: release 1), started 2026-04-18T03:00:00Z, was interrupted before its step \
             `switch`; no file had been changed"
        );
        journal.progress = JournalProgress::RollingBack("it answered 5".into());
        assert!(journal.interruption().ends_with("because it answered 5"));
        std::fs::write(&path, "{").unwrap();
        assert!(Journal::read(&path).is_err());
    }

    #[test]
    fn interruption_explains_what_the_deployment_changes_and_nothing_else() {
        let journal = journal();
        let explains = |kind, subject: &str| {
            journal.explains(&Finding::new(kind, subject, "a problem", "a fix"))
        };
        assert!(explains(FindingKind::Changed, "/h/server"));
        assert!(!explains(FindingKind::Changed, "/h/same"));
        assert!(explains(FindingKind::NotLoaded, "com.sanctum.server"));
        assert!(!explains(FindingKind::NotLoaded, "com.sanctum.hatch"));
        assert!(!explains(FindingKind::ForbiddenKey, "/h/server"));
        assert!(explains(FindingKind::Lease, "/h/state/lease.json"));
    }
}
