//! Conditions whose alerts are muted: `state/alerts/mutes.json`.
//!
//! `sanctum-launchd alert mute` changes the file under a lock; watchdogs only read it, before they deliver. A file that
//! cannot be read mutes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sanctum_config::{FileLock, RecordError, UntrustedText, record};
use sanctum_host::is_in_period;
use serde::{Deserialize, Serialize};

/// How long to wait for another command that changes the file.
const LOCK: Duration = Duration::from_secs(2);

/// The mutes of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Mutes {
    mutes: Vec<Mute>,
}

/// A condition whose alerts no channel receives for a time. They are logged and listed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Mute {
    /// The condition: `canary/misses`.
    pub condition: String,
    /// When it was muted.
    pub since: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Who muted it.
    pub by: UntrustedText,
    /// Why; empty if no reason was given.
    #[serde(default)]
    pub why: UntrustedText,
}

/// Mutes that cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MutesError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It cannot be locked.
    #[error("cannot lock {}: {why}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

impl Mutes {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        Ok(record::read(path)?.unwrap_or_default())
    }

    /// The mute of a condition at `now`.
    pub fn of(&self, condition: &str, now: DateTime<Utc>) -> Option<&Mute> {
        let mut mutes = self.mutes.iter();
        mutes.find(|mute| mute.condition == condition && mute.is_current(now))
    }

    /// The mutes that count at `now`.
    pub fn current(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Mute> {
        self.mutes.iter().filter(move |mute| mute.is_current(now))
    }

    /// Mutes a condition, in place of an earlier mute of it.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn add(path: &Path, mute: Mute) -> Result<(), MutesError> {
        change(path, |mutes| {
            mutes.retain(|other| other.condition != mute.condition);
            mutes.push(mute);
        })
    }

    /// Ends the mute of a condition. Returns whether there was one.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn remove(path: &Path, condition: &str) -> Result<bool, MutesError> {
        change(path, |mutes| {
            let before = mutes.len();
            mutes.retain(|mute| mute.condition != condition);
            mutes.len() < before
        })
    }
}

impl Mute {
    /// Whether it has begun, also by the clock that was set back since, and has not expired.
    fn is_current(&self, now: DateTime<Utc>) -> bool {
        is_in_period(now, self.since, self.until)
    }
}

/// Changes the file under its lock. Expired mutes are removed on this occasion.
fn change<T>(path: &Path, change: impl FnOnce(&mut Vec<Mute>) -> T) -> Result<T, MutesError> {
    let lock = path.with_extension("lock");
    let failed = |why: String| MutesError::Lock {
        path: lock.clone(),
        why,
    };
    let held = FileLock::take(&lock, LOCK).map_err(|error| failed(error.to_string()))?;
    let _held =
        held.ok_or_else(|| failed("another command holds it; run this one again".to_owned()))?;
    let mut mutes = Mutes::read(path)?;
    let now = Utc::now();
    mutes.mutes.retain(|mute| mute.is_current(now));
    let result = change(&mut mutes.mutes);
    record::write(path, &mutes)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn mute(condition: &str, until: DateTime<Utc>) -> Mute {
        Mute {
            condition: condition.to_owned(),
            since: Utc::now(),
            until,
            by: "ada".into(),
            why: "".into(),
        }
    }

    #[test]
    fn mute_is_of_one_condition_until_it_expires_or_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts/mutes.json");
        assert_eq!(Mutes::read(&path).unwrap(), Mutes::default());
        let now = Utc::now();
        let later = now + TimeDelta::hours(2);
        Mutes::add(&path, mute("canary/misses", now + TimeDelta::hours(1))).unwrap();
        Mutes::add(&path, mute("canary/misses", later)).unwrap();
        Mutes::add(&path, mute("drift/misses", now - TimeDelta::seconds(1))).unwrap();
        let mutes = Mutes::read(&path).unwrap();
        assert_eq!(mutes.current(now).count(), 1);
        assert_eq!(mutes.of("canary/misses", now).unwrap().until, later);
        assert_eq!(mutes.of("canary/misses", later), None);
        assert_eq!(mutes.of("canary/busy", now), None);
        assert_eq!(mutes.of("drift/misses", now), None);
        // After the clock was set back.
        let before = now - TimeDelta::hours(3);
        assert_eq!(mutes.of("canary/misses", before), None);
        assert_eq!(mutes.current(before).count(), 0);
        assert!(Mutes::remove(&path, "canary/misses").unwrap());
        assert!(!Mutes::remove(&path, "canary/misses").unwrap());
        assert_eq!(Mutes::read(&path).unwrap(), Mutes::default());
    }

    #[test]
    fn concurrent_changes_lose_no_mute() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mutes.json");
        let until = Utc::now() + TimeDelta::hours(1);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || Mutes::add(path, mute(&format!("c/{number}"), until)).unwrap());
            }
        });
        assert_eq!(Mutes::read(&path).unwrap().mutes.len(), 8);
    }
}
