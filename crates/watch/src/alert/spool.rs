//! The spool: a folder with one JSON file for each alert that a channel has not accepted yet.
//!
//! The watchdog writes it ([`Outbox`](super::Outbox)); other programs read it, through [`undelivered`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Label, RecordError, UntrustedText, record};
use serde::{Deserialize, Serialize};

use super::{Alert, Severity};
use crate::age;

/// One file of the spool.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct SpooledAlert {
    pub(super) alert: Alert,
    /// The channels that have not accepted it.
    pub(super) pending: Vec<Label>,
    /// The last failure of each channel that was tried with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) failures: BTreeMap<Label, ChannelFailure>,
}

/// A channel's last failure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct ChannelFailure {
    pub(super) error: UntrustedText,
    /// When it was first tried with this outcome.
    pub(super) since: DateTime<Utc>,
}

/// A spool that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep alerts in {}: {source}; they are lost if this process ends before they are delivered", folder.display())]
pub struct OutboxError {
    pub(super) folder: PathBuf,
    pub(super) source: io::Error,
}

/// An alert that a channel has not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Undelivered {
    /// The alert's id.
    pub id: String,
    /// How urgent it is.
    pub severity: Severity,
    /// Its title.
    pub title: UntrustedText,
    /// When it was raised.
    pub raised: DateTime<Utc>,
    /// The channel, as in `[alerts.NAME]`.
    pub channel: Label,
    /// Why the channel did not accept this alert, or the one before it if this one was not tried yet.
    pub error: Option<UntrustedText>,
    /// Whether the channel rejected it permanently: it is kept and not tried again.
    pub refused: bool,
}

impl Undelivered {
    /// How long it has been waiting.
    pub fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        now - self.raised
    }

    /// One line of text.
    pub fn line(&self, now: DateTime<Utc>) -> String {
        let what = match self.refused {
            true => "was rejected by",
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

/// The undelivered alerts of one watchdog, whose spool is `folder` ([`Home::spool`](sanctum_config::Home::spool)): one entry
/// for each alert and channel, oldest first. Nothing is changed.
///
/// # Errors
/// If the spool cannot be read.
pub fn undelivered(folder: &Path) -> Result<Vec<Undelivered>, OutboxError> {
    let mut all = Vec::new();
    // The newest failure of each channel explains the alerts that wait behind the one that was tried.
    let mut newest: BTreeMap<Label, ChannelFailure> = BTreeMap::new();
    for (folder, refused) in [(folder.to_owned(), false), (refused(folder), true)] {
        for (_, path) in files(&folder)? {
            // The watchdog moves a damaged file away and logs that.
            let Ok(Some(mut spooled)) = read(&path) else {
                continue;
            };
            for channel in spooled.pending {
                let failure = spooled.failures.remove(&channel);
                if let Some(failure) = failure.as_ref().filter(|_| !refused)
                    && newest
                        .get(&channel)
                        .is_none_or(|known| known.since <= failure.since)
                {
                    newest.insert(channel.clone(), failure.clone());
                }
                all.push(Undelivered {
                    id: spooled.alert.id.clone(),
                    severity: spooled.alert.severity,
                    title: spooled.alert.title.as_str().into(),
                    raised: spooled.alert.time,
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

/// The folder of alerts that a channel rejected permanently, and of damaged files.
pub(super) fn refused(folder: &Path) -> PathBuf {
    folder.join("refused")
}

/// The files of a spool in the order in which they were written, with their numbers.
pub(super) fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, OutboxError> {
    let failed = |source| OutboxError {
        folder: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name
            .strip_suffix(".json")
            .and_then(|name| name.split_once('-'))
            .and_then(|(number, _)| number.parse().ok());
        files.extend(number.map(|number| (number, path.clone())));
    }
    files.sort();
    Ok(files)
}

/// Reads a file of the spool; none if it is gone.
///
/// # Errors
/// If it cannot be read, or is damaged.
pub(super) fn read(path: &Path) -> Result<Option<SpooledAlert>, RecordError> {
    record::read(path)
}
