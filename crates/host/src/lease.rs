//! The maintenance lease: install, upgrade, rollback and uninstall hold it, so that no watchdog reports their work as an
//! outage.
//!
//! It is a small JSON file with an owner and an expiry. An expired lease pauses no watchdog, can be taken by the next
//! command, and is reported: the command that held it was interrupted, and the host may be between two releases.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::record::{self, RecordError};
use sanctum_config::{FileLock, Label, atomic};
use serde::{Deserialize, Serialize};

use crate::is_in_period;

/// How long to wait for the lock of the lease, which a process holds for milliseconds.
const LOCK: Duration = Duration::from_secs(1);

/// The command that works on this host, and until when at most.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lease {
    /// The command that holds it, such as `sanctum-launchd upgrade`.
    pub owner: String,
    /// What the command does, for operators.
    pub reason: String,
    /// The process that holds it.
    pub pid: u32,
    /// When it was taken.
    pub taken: DateTime<Utc>,
    /// When it expires unless it is renewed.
    pub expires: DateTime<Utc>,
}

/// The state of the lease at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseStatus {
    /// No command holds it.
    Free,
    /// A command holds it: watchdogs are paused.
    Held(Lease),
    /// It expired before the command released it.
    Expired(Lease),
}

/// A lease that this process holds. Dropping it releases it; the lease of a process that is killed expires.
#[derive(Debug)]
pub struct LeaseGuard {
    path: PathBuf,
    lease: Lease,
    released: bool,
}

/// Why the lease cannot be taken, renewed or released.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another command holds it.
    #[error(
        "`{}` (process {}) is at work on this host until {} at the latest: {}; wait until it has finished, or if that \
         process has ended, remove {}",
        lease.owner, lease.pid, lease.expires.format("%H:%M:%S UTC"), lease.reason, path.display()
    )]
    Held {
        /// The file.
        path: PathBuf,
        /// What it says.
        lease: Box<Lease>,
    },
    /// Another command took it after it had expired.
    #[error("this command no longer holds the lease {}: it expired, and another command took it", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// Its record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It cannot be locked or removed.
    #[error("cannot use {}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Lease {
    /// Reads the file; none if no command holds a lease.
    ///
    /// # Errors
    /// If it cannot be read or does not parse.
    pub fn read(path: &Path) -> Result<Option<Self>, LeaseError> {
        Ok(record::read(path)?)
    }

    /// Whether it has expired, or was taken before the clock was set back.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        !is_in_period(now, self.taken, self.expires)
    }

    /// Whether the process that took it exists. Process numbers are reused, so a live process proves little; an ended one
    /// proves that the command was interrupted.
    pub fn has_live_process(&self) -> bool {
        let pid = i32::try_from(self.pid).ok();
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
            return false;
        };
        // A process of another user answers EPERM.
        rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
    }
}

impl LeaseStatus {
    /// The state of the lease at `now`.
    ///
    /// # Errors
    /// As [`Lease::read`].
    pub fn read(path: &Path, now: DateTime<Utc>) -> Result<Self, LeaseError> {
        Ok(match Lease::read(path)? {
            None => Self::Free,
            Some(lease) if lease.is_expired(now) => Self::Expired(lease),
            Some(lease) => Self::Held(lease),
        })
    }
}

/// Takes the lease for `duration`. A lease that has expired, does not parse, or whose process has ended is replaced, and
/// returned beside the new one if it could be read: its command was interrupted.
///
/// # Errors
/// If another process holds it, or the file cannot be used.
pub fn take(
    path: &Path,
    owner: &str,
    reason: &str,
    duration: Duration,
) -> Result<(LeaseGuard, Option<Lease>), LeaseError> {
    let _lock = lock(path)?;
    let now = Utc::now();
    let previous = match Lease::read(path) {
        Ok(previous) => previous,
        Err(LeaseError::Record(RecordError::Form { .. })) => None,
        Err(error) => return Err(error),
    };
    if let Some(lease) = &previous
        && !lease.is_expired(now)
        && lease.has_live_process()
    {
        return Err(LeaseError::Held {
            path: path.to_owned(),
            lease: Box::new(lease.clone()),
        });
    }
    let lease = Lease {
        owner: owner.to_owned(),
        reason: reason.to_owned(),
        pid: std::process::id(),
        taken: now,
        expires: after(now, duration),
    };
    record::write(path, &lease)?;
    let guard = LeaseGuard {
        path: path.to_owned(),
        lease,
        released: false,
    };
    Ok((guard, previous))
}

impl LeaseGuard {
    /// What the file says.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Extends it to `duration` from now. To be called before each step that may take long.
    ///
    /// # Errors
    /// If another command took it in the meantime, or the file cannot be used.
    pub fn renew(&mut self, duration: Duration) -> Result<(), LeaseError> {
        let _lock = lock(&self.path)?;
        self.check_ours()?;
        self.lease.expires = after(Utc::now(), duration);
        Ok(record::write(&self.path, &self.lease)?)
    }

    /// Releases it.
    ///
    /// # Errors
    /// As [`LeaseGuard::renew`].
    pub fn release(mut self) -> Result<(), LeaseError> {
        self.released = true;
        self.remove()
    }

    fn remove(&self) -> Result<(), LeaseError> {
        let _lock = lock(&self.path)?;
        self.check_ours()?;
        atomic::remove(&self.path).map_err(|source| system(&self.path, source))
    }

    fn check_ours(&self) -> Result<(), LeaseError> {
        let ours = Lease::read(&self.path)?
            .is_some_and(|lease| (lease.pid, lease.taken) == (self.lease.pid, self.lease.taken));
        match ours {
            true => Ok(()),
            false => Err(LeaseError::Lost {
                path: self.path.clone(),
            }),
        }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if !self.released
            && let Err(error) = self.remove()
        {
            tracing::warn!("{error}");
        }
    }
}

/// Whether the watchdog `agent` is the one that reports an expired lease: the first that asks, so that several watchdogs
/// send one alert.
///
/// # Errors
/// If the record of it cannot be used.
pub fn claim_alert(path: &Path, lease: &Lease, agent: &Label) -> Result<bool, LeaseError> {
    #[derive(Deserialize, Serialize)]
    struct AlertClaim {
        taken: DateTime<Utc>,
        pid: u32,
        by: Label,
    }
    let beside = path.with_extension("claim.json");
    let _lock = lock(path)?;
    let claim: Option<AlertClaim> = record::read(&beside).unwrap_or_default();
    match claim {
        Some(claim) if (claim.taken, claim.pid) == (lease.taken, lease.pid) => {
            Ok(claim.by == *agent)
        }
        _ => {
            let claim = AlertClaim {
                taken: lease.taken,
                pid: lease.pid,
                by: agent.clone(),
            };
            record::write(&beside, &claim)?;
            Ok(true)
        }
    }
}

/// Held for the moment of one change. The wait is bounded: a process that was stopped (SIGSTOP) keeps the lock.
fn lock(path: &Path) -> Result<FileLock, LeaseError> {
    let path = path.with_extension("lock");
    let lock = FileLock::take(&path, LOCK).map_err(|source| system(&path, source))?;
    lock.ok_or_else(|| {
        let why = "another process has held it for 1 s; find that process with `lsof` on the file";
        system(&path, io::Error::new(io::ErrorKind::TimedOut, why))
    })
}

fn after(now: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|duration| now.checked_add_signed(duration))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn system(path: &Path, source: io::Error) -> LeaseError {
    LeaseError::System {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/lease.json");
        (folder, path)
    }

    #[test]
    fn lease_is_held_by_one_command_at_a_time() {
        let (_folder, path) = place();
        let (mut held, previous) = take(&path, "sanctum-launchd upgrade", "0.3.0", HOUR).unwrap();
        assert_eq!(previous, None);
        let now = Utc::now();
        assert_eq!(
            LeaseStatus::read(&path, now).unwrap(),
            LeaseStatus::Held(held.lease().clone())
        );
        let error = take(&path, "sanctum-launchd install", "", HOUR).unwrap_err();
        assert!(
            error.to_string().contains("`sanctum-launchd upgrade`"),
            "{error}"
        );
        held.renew(2 * HOUR).unwrap();
        assert!(!Lease::read(&path).unwrap().unwrap().is_expired(now + HOUR));
        held.release().unwrap();
        assert_eq!(LeaseStatus::read(&path, now).unwrap(), LeaseStatus::Free);
        drop(take(&path, "a", "b", HOUR).unwrap());
        assert_eq!(Lease::read(&path).unwrap(), None);
    }

    #[test]
    fn expired_lease_is_reported_by_one_watchdog_and_can_be_taken() {
        let (_folder, path) = place();
        let (mut first, _) = take(&path, "first", "", Duration::ZERO).unwrap();
        let LeaseStatus::Expired(expired) = LeaseStatus::read(&path, Utc::now()).unwrap() else {
            panic!("it has expired")
        };
        let agent = |name: &str| name.parse::<Label>().unwrap();
        assert!(claim_alert(&path, &expired, &agent("guardian")).unwrap());
        assert!(!claim_alert(&path, &expired, &agent("canary")).unwrap());
        assert!(claim_alert(&path, &expired, &agent("guardian")).unwrap());

        let (second, previous) = take(&path, "second", "", HOUR).unwrap();
        assert_eq!(previous, Some(expired));
        assert!(matches!(first.renew(HOUR), Err(LeaseError::Lost { .. })));
        drop(first);
        assert_eq!(Lease::read(&path).unwrap().as_ref(), Some(second.lease()));
    }

    #[test]
    fn lease_from_a_clock_that_ran_ahead_has_expired() {
        let (_folder, path) = place();
        let (held, _) = take(&path, "install", "", HOUR).unwrap();
        let now = held.lease().taken;
        for (back, is_held) in [
            (TimeDelta::seconds(30), true),
            (TimeDelta::days(300), false),
        ] {
            let status = LeaseStatus::read(&path, now - back).unwrap();
            assert_eq!(
                matches!(status, LeaseStatus::Held(_)),
                is_held,
                "{status:?}"
            );
        }
    }

    #[test]
    fn lease_of_an_ended_process_or_a_damaged_one_does_not_block_the_next_command() {
        let (_folder, path) = place();
        let now = Utc::now();
        let killed = Lease {
            owner: "killed".into(),
            reason: String::new(),
            // Beyond the largest process number.
            pid: 0x7fff_fff0,
            taken: now,
            expires: now + HOUR,
        };
        record::write(&path, &killed).unwrap();
        assert!(!killed.has_live_process());
        // It pauses watchdogs all the same until it expires.
        assert!(matches!(
            LeaseStatus::read(&path, now).unwrap(),
            LeaseStatus::Held(_)
        ));
        let (held, previous) = take(&path, "next", "", HOUR).unwrap();
        assert_eq!(previous, Some(killed));
        assert!(held.lease().has_live_process());
        held.release().unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Lease::read(&path), Err(LeaseError::Record(_))));
        drop(take(&path, "next", "", HOUR).unwrap());
    }
}
