//! Agents that an operator has stopped on purpose. `sanctum-launchd stop` writes the record before it stops an agent, and
//! `start` removes the entry. Watchdogs do not alert about a stopped agent, the guardian does not load it again, and
//! installations leave it stopped.
//!
//! On a host that watches another one, the record also names agents of that host: `stop AGENT --host NAME` writes both.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_config::record::{self, RecordError};
use sanctum_config::{FileLock, Label};
use serde::{Deserialize, Serialize};

/// How long to wait for the record's lock, which a process holds for milliseconds.
const LOCK: Duration = Duration::from_secs(1);

/// The agents that are stopped on purpose, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct StoppedAgents(BTreeMap<Label, StoppedAgent>);

/// When and why an agent was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct StoppedAgent {
    /// When.
    pub since: DateTime<Utc>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The record cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum StoppedError {
    /// It cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It cannot be locked.
    #[error("cannot lock {}: {source}", path.display())]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl StoppedAgents {
    /// Reads the record; without a file no agent is stopped.
    ///
    /// # Errors
    /// If it cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        record::read(path).map(Option::unwrap_or_default)
    }

    /// Why this agent is stopped; none if it is not.
    pub fn get(&self, agent: &Label) -> Option<&StoppedAgent> {
        self.0.get(agent)
    }

    /// Whether this agent is stopped.
    pub fn contains(&self, agent: &Label) -> bool {
        self.0.contains_key(agent)
    }

    /// Records that an agent is stopped. An agent that is stopped already keeps its first time.
    ///
    /// # Errors
    /// If the record cannot be locked, read or written.
    pub fn add(path: &Path, agent: &Label, reason: Option<&str>) -> Result<(), StoppedError> {
        Self::change(path, |stopped| {
            let entry = stopped.0.entry(agent.clone()).or_insert(StoppedAgent {
                since: Utc::now(),
                reason: None,
            });
            if let Some(reason) = reason {
                entry.reason = Some(reason.to_owned());
            }
        })
    }

    /// Removes the record of an agent. Returns whether there was one.
    ///
    /// # Errors
    /// As [`StoppedAgents::add`].
    pub fn remove(path: &Path, agent: &Label) -> Result<bool, StoppedError> {
        let mut was_stopped = false;
        Self::change(path, |stopped| {
            was_stopped = stopped.0.remove(agent).is_some();
        })?;
        Ok(was_stopped)
    }

    fn change(path: &Path, change: impl FnOnce(&mut Self)) -> Result<(), StoppedError> {
        let file = path.with_extension("lock");
        let failed = |source| StoppedError::Lock {
            path: file.clone(),
            source,
        };
        let lock = FileLock::take(&file, LOCK).map_err(failed)?;
        let _lock = lock.ok_or_else(|| {
            let why =
                "another process has held it for 1 s; find that process with `lsof` on the file";
            failed(io::Error::new(io::ErrorKind::TimedOut, why))
        })?;
        let mut stopped = Self::read(path)?;
        let before = stopped.clone();
        change(&mut stopped);
        match stopped == before {
            true => Ok(()),
            false => Ok(record::write(path, &stopped)?),
        }
    }
}

impl StoppedAgent {
    /// `stopped on purpose since 2026-04-18 03:00 UTC (new disk)`.
    pub fn describe(&self) -> String {
        let since = self.since.format("%Y-%m-%d %H:%M UTC");
        let reason = self.reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        format!("stopped on purpose since {since}{reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_is_stopped_until_its_record_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/stopped.json");
        let server: Label = "server".parse().unwrap();
        assert!(!StoppedAgents::read(&path).unwrap().contains(&server));
        assert!(!StoppedAgents::remove(&path, &server).unwrap());
        assert!(!path.exists());

        StoppedAgents::add(&path, &server, Some("new disk")).unwrap();
        let first = StoppedAgents::read(&path).unwrap();
        let entry = first.get(&server).unwrap();
        assert!(entry.describe().ends_with("UTC (new disk)"));
        // A second stop keeps the time and the reason.
        StoppedAgents::add(&path, &server, None).unwrap();
        assert_eq!(StoppedAgents::read(&path).unwrap(), first);

        assert!(StoppedAgents::remove(&path, &server).unwrap());
        assert!(!StoppedAgents::read(&path).unwrap().contains(&server));
    }

    #[test]
    fn record_that_is_damaged_is_an_error_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stopped.json");
        std::fs::write(&path, "{").unwrap();
        let server: Label = "server".parse().unwrap();
        assert!(StoppedAgents::add(&path, &server, None).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{");
    }
}
