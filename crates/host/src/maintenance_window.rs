//! The maintenance window: until it ends, the watchdogs of this host check and neither alert nor act.
//!
//! `sanctum-launchd pause` opens it and `resume` closes it; it ends by itself. Unlike the lease, no process holds it, and
//! deployments are possible while it is open.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::record::{self, RecordError};
use serde::{Deserialize, Serialize};

use crate::is_in_period;

/// The maintenance window of a host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MaintenanceWindow {
    /// When it was opened.
    pub since: DateTime<Utc>,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl MaintenanceWindow {
    /// The longest window. Agents that are out of service for longer are stopped instead.
    pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

    /// The window that is open at `now`; none if there is none.
    ///
    /// # Errors
    /// If the record cannot be read or does not parse.
    pub fn read(path: &Path, now: DateTime<Utc>) -> Result<Option<Self>, RecordError> {
        let window: Option<Self> = record::read(path)?;
        Ok(window.filter(|window| is_in_period(now, window.since, window.until)))
    }

    /// Opens a window of this duration, in place of one that is open.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn open(
        path: &Path,
        now: DateTime<Utc>,
        duration: Duration,
        reason: Option<&str>,
    ) -> Result<Self, RecordError> {
        let duration = TimeDelta::from_std(duration.min(Self::LONGEST)).unwrap_or_default();
        let window = Self {
            since: now,
            until: now + duration,
            reason: reason.map(str::to_owned),
        };
        record::write(path, &window)?;
        Ok(window)
    }

    /// `maintenance window until 2026-04-18 03:30 UTC (new disk)`.
    pub fn describe(&self) -> String {
        let until = self.until.format("%Y-%m-%d %H:%M UTC");
        let reason = self.reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        format!("maintenance window until {until}{reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

    #[test]
    fn window_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/window.json");
        let now = Utc::now();
        assert_eq!(MaintenanceWindow::read(&path, now).unwrap(), None);
        let window = MaintenanceWindow::open(&path, now, HALF_AN_HOUR, Some("new disk")).unwrap();
        assert!(window.describe().ends_with("UTC (new disk)"));
        let at =
            |minutes| MaintenanceWindow::read(&path, now + TimeDelta::minutes(minutes)).unwrap();
        assert_eq!(at(0), Some(window.clone()));
        assert_eq!(at(29), Some(window));
        assert_eq!(at(30), None);
        // After the clock was set back by hours.
        assert_eq!(at(-120), None);
    }

    #[test]
    fn window_that_is_too_long_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("window.json");
        let now = Utc::now();
        let window = MaintenanceWindow::open(&path, now, 100 * MaintenanceWindow::LONGEST, None);
        assert_eq!(window.unwrap().until - now, TimeDelta::hours(24));
    }
}
