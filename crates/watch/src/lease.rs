//! The maintenance lease: install, upgrade and rollback hold it so that no watchdog takes their work for an outage.
//!
//! It is a small JSON file with an owner and an expiry. A lease that has expired holds nobody off any more, can be
//! taken over, and is reported: whoever held it was stopped half-way, and the host may be between two releases.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Label, atomic, files};
use serde::{Deserialize, Serialize};

/// How far a clock may be set back in the ordinary course of keeping time.
const SET_BACK: TimeDelta = TimeDelta::minutes(1);

/// Larger than any lease; such a file is something else.
const LARGEST: u64 = 1 << 20;

/// How long the lock is waited for; it is held for milliseconds.
const LOCKED: Duration = Duration::from_secs(1);

/// Who works on this host, and until when at most.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lease {
    /// The command that holds it, such as `sanctum-launchd upgrade`.
    pub owner: String,
    /// What for, for people.
    pub reason: String,
    /// The process that holds it.
    pub pid: u32,
    /// Since when.
    pub taken: DateTime<Utc>,
    /// Until when, unless it is renewed.
    pub expires: DateTime<Utc>,
}

/// How a lease file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody holds it.
    Free,
    /// Hold off.
    Held(Lease),
    /// Somebody held it and never gave it back.
    Expired(Lease),
}

/// A lease that this process holds. Dropping it gives it back; a process that is killed leaves it to expire.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    lease: Lease,
    given_back: bool,
}

/// A lease that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another command holds it.
    #[error(
        "`{}` (process {}) works on this host until {} at the latest: {}; wait for it, or if that process is gone, remove {}",
        lease.owner, lease.pid, lease.expires.format("%H:%M:%S UTC"), lease.reason, path.display()
    )]
    Taken {
        /// The file.
        path: PathBuf,
        /// What it says.
        lease: Box<Lease>,
    },
    /// Another command took it over after it had expired.
    #[error("the lease {} is no longer this command's: it expired and was taken over", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// The file is no lease.
    #[error("{} is damaged ({why}); remove it", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// The system refuses.
    #[error("cannot use {}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Lease {
    /// Reads the file; none if nobody holds a lease.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Option<Self>, LeaseError> {
        read(path)
    }

    /// Whether it has expired. One from the future was taken before the clock was set back, and would hold everybody off
    /// until then.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires <= now || self.taken - now > SET_BACK
    }
}

impl Standing {
    /// Reads how a lease stands at `now`.
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

/// Takes the lease for `lasts`. One that has expired, is damaged, or whose process is gone is taken over, and
/// returned beside the new one when it could be read: its work was interrupted.
///
/// # Errors
/// If another process holds it, or the system refuses.
pub fn take(
    path: &Path,
    owner: &str,
    reason: &str,
    lasts: Duration,
) -> Result<(Held, Option<Lease>), LeaseError> {
    let _lock = lock(path)?;
    let now = Utc::now();
    let previous = match Lease::read(path) {
        Ok(previous) => previous,
        Err(LeaseError::Form { .. }) => None,
        Err(error) => return Err(error),
    };
    if let Some(lease) = &previous
        && !lease.is_expired(now)
        && is_alive(lease.pid)
    {
        return Err(LeaseError::Taken {
            path: path.to_owned(),
            lease: Box::new(lease.clone()),
        });
    }
    let lease = Lease {
        owner: owner.to_owned(),
        reason: reason.to_owned(),
        pid: std::process::id(),
        taken: now,
        expires: after(now, lasts),
    };
    write(path, &lease)?;
    let held = Held {
        path: path.to_owned(),
        lease,
        given_back: false,
    };
    Ok((held, previous))
}

impl Held {
    /// What the file says.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Holds it for `lasts` from now on: before every step that may take long.
    ///
    /// # Errors
    /// If it was lost in the meantime, or the system refuses.
    pub fn renew(&mut self, lasts: Duration) -> Result<(), LeaseError> {
        let _lock = lock(&self.path)?;
        self.still_ours()?;
        self.lease.expires = after(Utc::now(), lasts);
        write(&self.path, &self.lease)
    }

    /// Gives it back.
    ///
    /// # Errors
    /// If it was lost in the meantime, or the system refuses.
    pub fn release(mut self) -> Result<(), LeaseError> {
        self.given_back = true;
        self.give_back()
    }

    fn give_back(&self) -> Result<(), LeaseError> {
        let _lock = lock(&self.path)?;
        self.still_ours()?;
        atomic::remove(&self.path).map_err(|source| system(&self.path, source))
    }

    fn still_ours(&self) -> Result<(), LeaseError> {
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

impl Drop for Held {
    fn drop(&mut self) {
        if !self.given_back
            && let Err(error) = self.give_back()
        {
            tracing::warn!("{error}");
        }
    }
}

/// Which watchdog tells of an expired lease: the first that asks, so that five of them send one alert.
///
/// # Errors
/// If the system refuses.
pub fn tells_of(path: &Path, lease: &Lease, agent: &Label) -> Result<bool, LeaseError> {
    #[derive(Deserialize, Serialize)]
    struct Told {
        taken: DateTime<Utc>,
        pid: u32,
        by: Label,
    }
    let beside = path.with_extension("told.json");
    let _lock = lock(path)?;
    let told: Option<Told> = read(&beside).unwrap_or_default();
    match told {
        Some(told) if (told.taken, told.pid) == (lease.taken, lease.pid) => Ok(told.by == *agent),
        _ => {
            let told = Told {
                taken: lease.taken,
                pid: lease.pid,
                by: agent.clone(),
            };
            write(&beside, &told).map(|()| true)
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, LeaseError> {
    let bytes = match files::read_own(path, LARGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| system(path, source))?,
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| LeaseError::Form {
            path: path.to_owned(),
            why: error.to_string(),
        })
}

fn write<T: Serialize>(path: &Path, what: &T) -> Result<(), LeaseError> {
    let mut bytes = serde_json::to_vec_pretty(what)
        .map_err(|error| system(path, io::Error::new(io::ErrorKind::InvalidData, error)))?;
    bytes.push(b'\n');
    atomic::write(path, &bytes, 0o600).map_err(|source| system(path, source))
}

/// Held for the moment of one change, by the kernel: a killed process cannot leave it locked. One that was stopped in
/// between can, so the wait is bounded.
fn lock(path: &Path) -> Result<File, LeaseError> {
    let path = path.with_extension("lock");
    let failed = |source| system(&path, source);
    let file = files::open_lock(&path).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= LOCKED => {
                let why =
                    "another process holds it and does not go on; `lsof` on the file names it";
                return Err(failed(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    // Somebody else's process is alive too.
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

fn after(now: DateTime<Utc>, lasts: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(lasts)
        .ok()
        .and_then(|lasts| now.checked_add_signed(lasts))
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
    fn one_command_at_a_time() {
        let (_folder, path) = place();
        let (mut held, previous) = take(&path, "sanctum-launchd upgrade", "0.3.0", HOUR).unwrap();
        assert_eq!(previous, None);
        let now = Utc::now();
        assert_eq!(
            Standing::read(&path, now).unwrap(),
            Standing::Held(held.lease().clone())
        );
        let error = take(&path, "sanctum-launchd install", "", HOUR).unwrap_err();
        assert!(
            error.to_string().contains("`sanctum-launchd upgrade`"),
            "{error}"
        );
        held.renew(2 * HOUR).unwrap();
        assert!(!Lease::read(&path).unwrap().unwrap().is_expired(now + HOUR));
        held.release().unwrap();
        assert_eq!(Standing::read(&path, now).unwrap(), Standing::Free);
        drop(take(&path, "a", "b", HOUR).unwrap());
        assert_eq!(Lease::read(&path).unwrap(), None);
    }

    #[test]
    fn an_expired_lease_is_reported_and_can_be_taken_over() {
        let (_folder, path) = place();
        let (mut first, _) = take(&path, "first", "", Duration::ZERO).unwrap();
        let Standing::Expired(expired) = Standing::read(&path, Utc::now()).unwrap() else {
            panic!("it has expired")
        };
        let agent = |name: &str| name.parse::<Label>().unwrap();
        assert!(tells_of(&path, &expired, &agent("guardian")).unwrap());
        assert!(!tells_of(&path, &expired, &agent("canary")).unwrap());
        assert!(tells_of(&path, &expired, &agent("guardian")).unwrap());

        let (second, previous) = take(&path, "second", "", HOUR).unwrap();
        assert_eq!(previous, Some(expired));
        assert!(matches!(first.renew(HOUR), Err(LeaseError::Lost { .. })));
        drop(first);
        assert_eq!(Lease::read(&path).unwrap().as_ref(), Some(second.lease()));
    }

    #[test]
    fn a_lease_from_a_clock_that_ran_ahead_holds_nobody_off() {
        let (_folder, path) = place();
        let (held, _) = take(&path, "install", "", HOUR).unwrap();
        let now = held.lease().taken;
        for (back, holds) in [
            (TimeDelta::seconds(30), true),
            (TimeDelta::days(300), false),
        ] {
            let standing = Standing::read(&path, now - back).unwrap();
            assert_eq!(matches!(standing, Standing::Held(_)), holds, "{standing:?}");
        }
    }

    #[test]
    fn a_dead_or_damaged_holder_does_not_block_the_next_command() {
        let (_folder, path) = place();
        let now = Utc::now();
        let dead = Lease {
            owner: "killed".into(),
            reason: String::new(),
            // Beyond what the system numbers processes with.
            pid: 0x7fff_fff0,
            taken: now,
            expires: now + HOUR,
        };
        write(&path, &dead).unwrap();
        // Watchdogs honour it all the same until it expires.
        assert!(matches!(
            Standing::read(&path, now).unwrap(),
            Standing::Held(_)
        ));
        let (held, previous) = take(&path, "next", "", HOUR).unwrap();
        assert_eq!(previous, Some(dead));
        held.release().unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(Lease::read(&path), Err(LeaseError::Form { .. })));
        drop(take(&path, "next", "", HOUR).unwrap());
    }
}
