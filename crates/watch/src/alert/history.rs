//! The last alerts of a watchdog, and which channels accepted them: `state/alerts/history/NAME.json`. Only the watchdog
//! writes it; `sanctum-launchd alert list` reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sanctum_config::{Label, RecordError, UntrustedText, record};
use serde::{Deserialize, Serialize};

use super::{Alert, Severity};

/// The alerts that are kept.
const KEPT: usize = 200;
/// What is kept of a body, in characters.
const SHOWN: usize = 1000;

/// An alert that was raised.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PastAlert {
    /// Its id.
    pub id: String,
    /// What it is about: `canary/misses`.
    pub condition: String,
    /// How urgent it is.
    pub severity: Severity,
    /// Its title.
    pub title: UntrustedText,
    /// The beginning of its body.
    pub body: UntrustedText,
    /// When it was raised.
    pub raised: DateTime<Utc>,
    /// The channels that have accepted it, and when.
    #[serde(default)]
    pub delivered: BTreeMap<Label, DateTime<Utc>>,
    /// The channels that did not receive it because it was muted.
    #[serde(default)]
    pub muted: Vec<Label>,
}

/// The history of one watchdog, oldest first.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    alerts: Vec<PastAlert>,
    /// Whether it differs from the file.
    is_changed: bool,
}

impl History {
    /// The past alerts in a file; none if it is not there.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Vec<PastAlert>, RecordError> {
        Ok(record::read(path)?.unwrap_or_default())
    }

    /// Opens the history of a watchdog. One that cannot be read begins empty.
    pub(super) fn open(path: PathBuf) -> Self {
        let alerts = Self::read(&path).unwrap_or_else(|error| {
            tracing::warn!("{error}; the list of past alerts begins empty");
            Vec::new()
        });
        Self {
            path,
            alerts,
            is_changed: false,
        }
    }

    /// Notes an alert. One that was raised again after a crash is a duplicate.
    pub(super) fn raised(&mut self, alert: &Alert) {
        if self.alerts.iter().any(|past| past.id == alert.id) {
            return;
        }
        self.alerts.push(PastAlert {
            id: alert.id.clone(),
            condition: alert.condition.clone(),
            severity: alert.severity,
            title: UntrustedText::new(&alert.title),
            body: UntrustedText::bounded(&alert.body, SHOWN),
            raised: alert.time,
            delivered: BTreeMap::new(),
            muted: Vec::new(),
        });
        let surplus = self.alerts.len().saturating_sub(KEPT);
        self.alerts.drain(..surplus);
        self.is_changed = true;
    }

    /// Notes that a channel has accepted an alert.
    pub(super) fn delivered(&mut self, id: &str, channel: &Label, now: DateTime<Utc>) {
        self.change(id, |past| {
            past.delivered.insert(channel.clone(), now);
        });
    }

    /// Notes that a channel does not receive an alert, because it is muted.
    pub(super) fn muted(&mut self, id: &str, channel: &Label) {
        self.change(id, |past| past.muted.push(channel.clone()));
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut PastAlert)) {
        if let Some(past) = self.alerts.iter_mut().rev().find(|past| past.id == id) {
            change(past);
            self.is_changed = true;
        }
    }

    /// Writes what has changed. A history that cannot be written is written with the next change: alerts matter more.
    pub(super) fn write(&mut self) {
        if !self.is_changed {
            return;
        }
        match record::write(&self.path, &self.alerts) {
            Ok(()) => self.is_changed = false,
            Err(error) => tracing::debug!("{error}"),
        }
    }
}
