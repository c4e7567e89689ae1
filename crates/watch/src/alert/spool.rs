//! The spool: a folder with one JSON file for each alert that not every channel has accepted yet.
//!
//! The watchdog writes it ([`Outbox`](super::Outbox)); everybody else only reads it, through [`undelivered`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Label, UntrustedText, files};
use serde::{Deserialize, Serialize};

use super::{Alert, OutboxError, Severity};
use crate::age;

/// Larger than any alert; such a file is something else.
const LARGEST: u64 = 1 << 20;

/// One file of the spool.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Letter {
    pub(super) alert: Alert,
    /// The channels that have not accepted it.
    pub(super) pending: Vec<Label>,
    /// The last failure of each channel that was tried with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) failures: BTreeMap<Label, Failure>,
}

/// A channel's last failure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Failure {
    pub(super) error: UntrustedText,
    /// When it was first tried with this outcome.
    pub(super) since: DateTime<Utc>,
}

/// An alert that a channel has not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Undelivered {
    /// The alert's id.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// Its title.
    pub title: UntrustedText,
    /// When it was raised.
    pub raised: DateTime<Utc>,
    /// The channel, as in `[alerts.NAME]`.
    pub channel: Label,
    /// Why the channel did not accept this alert or, where that was not tried yet, the one before it.
    pub error: Option<UntrustedText>,
    /// Whether the channel refused it for good: it is kept for people, and not tried again.
    pub refused: bool,
}

impl Undelivered {
    /// How long it has been waiting.
    pub fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        now - self.raised
    }

    /// A line for people.
    pub fn line(&self, now: DateTime<Utc>) -> String {
        let what = match self.refused {
            true => "was refused by",
            false => "has not reached",
        };
        let error = match &self.error {
            Some(error) => format!(": {error}"),
            None => String::new(),
        };
        format!(
            "\"{}\", raised {} ago, {what} the channel {}{error}",
            self.title,
            age(self.age(now)),
            self.channel
        )
    }
}

/// What has not been delivered of the alerts of one watchdog, whose spool is `folder`
/// ([`Home::spool`](sanctum_config::Home::spool)): one entry for each alert and channel, oldest first. Nothing is changed.
///
/// # Errors
/// If the spool cannot be read.
pub fn undelivered(folder: &Path) -> Result<Vec<Undelivered>, OutboxError> {
    let mut all = Vec::new();
    // The newest failure of each channel explains the alerts that wait behind the one that was tried.
    let mut newest: BTreeMap<Label, Failure> = BTreeMap::new();
    for (folder, refused) in [(folder.to_owned(), false), (refused(folder), true)] {
        for (_, path) in letters(&folder)? {
            // One that is damaged is the watchdog's to set aside and log.
            let Ok(Some(mut letter)) = read(&path) else {
                continue;
            };
            for channel in letter.pending {
                let failure = letter.failures.remove(&channel);
                if let Some(failure) = failure.as_ref().filter(|_| !refused)
                    && newest
                        .get(&channel)
                        .is_none_or(|known| known.since <= failure.since)
                {
                    newest.insert(channel.clone(), failure.clone());
                }
                all.push(Undelivered {
                    id: letter.alert.id.clone(),
                    severity: letter.alert.severity,
                    title: letter.alert.title.as_str().into(),
                    raised: letter.alert.time,
                    channel,
                    error: failure.map(|failure| failure.error),
                    refused,
                });
            }
        }
    }
    for one in all.iter_mut().filter(|one| one.error.is_none()) {
        let failure = newest.get(&one.channel);
        one.error = failure.map(|failure| failure.error.clone());
    }
    all.sort_by_key(|one| one.raised);
    Ok(all)
}

/// Where alerts lie that a channel refused for good, and files that are no alerts.
pub(super) fn refused(folder: &Path) -> PathBuf {
    folder.join("refused")
}

/// The files of a spool in the order in which they were written, with their numbers.
pub(super) fn letters(folder: &Path) -> Result<Vec<(u64, PathBuf)>, OutboxError> {
    let failed = |source| OutboxError {
        folder: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut letters = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name
            .strip_suffix(".json")
            .and_then(|name| name.split_once('-'))
            .and_then(|(number, _)| number.parse().ok());
        letters.extend(number.map(|number| (number, path.clone())));
    }
    letters.sort();
    Ok(letters)
}

/// Reads a file of the spool; none if it is gone.
///
/// # Errors
/// If it cannot be read, or is no alert.
pub(super) fn read(path: &Path) -> io::Result<Option<Letter>> {
    match files::read(path, LARGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
    }
}
