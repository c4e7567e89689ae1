//! `state/trial.json`: the trial server that an upgrade has started, so that the next command can end it if the upgrade is
//! killed.

use std::path::PathBuf;

use sanctum_config::record;
use sanctum_config::{Home, Label, atomic};
use serde::{Deserialize, Serialize};

use crate::{Error, ProcessIdentity};

/// A trial server.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TrialRecord {
    /// The server that is tried.
    pub server: Label,
    /// The process of the trial.
    pub process: ProcessIdentity,
}

impl TrialRecord {
    fn path(home: &Home) -> PathBuf {
        home.state().join("trial.json")
    }

    /// The trial server that still runs; none if there is none.
    ///
    /// # Errors
    /// If the record cannot be read, or the state of the process is unknown. The record stays.
    pub fn read(home: &Home) -> Result<Option<Self>, Error> {
        let path = Self::path(home);
        let Some(record) = record::read::<Self>(&path)? else {
            return Ok(None);
        };
        let Self { server, process } = &record;
        let running = process.is_running().map_err(|error| {
            let pid = process.pid;
            Error::Refused(format!(
                "cannot tell whether the trial of `{server}` that an interrupted upgrade left still runs (process {pid}): \
                 {error}; check with `ps -p {pid}`, end the trial with `kill -9 {pid}` if it runs, then remove {}",
                path.display()
            ))
        })?;
        Ok(running.then_some(record))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, home: &Home) -> Result<(), Error> {
        Ok(record::write(&Self::path(home), self)?)
    }

    /// Removes the record; it may be missing.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(home: &Home) -> Result<(), Error> {
        let path = Self::path(home);
        atomic::remove(&path).map_err(|error| Error::write(&path, error))
    }
}
