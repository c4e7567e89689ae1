//! What a watchdog remembers: a small JSON file, written whole or not at all after every round, so that a restart
//! forgets nothing. Drift reads its heartbeat, and `sanctum-launchd status` its rates.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Label, atomic, files};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::age;
use crate::schedule::Schedule;
use crate::verdict::{Kind, Verdict};

/// The hours that are kept: seven days.
const KEPT: usize = 7 * 24;

/// Larger than any state; such a file is something else.
const LARGEST: u64 = 16 << 20;

/// The loop wakes at least this often and writes its heartbeat; drift allows some lateness on top.
pub(crate) const PULSE: TimeDelta = TimeDelta::minutes(5);

/// After this time without a sign of life a watchdog has stopped.
const SILENCE: TimeDelta = TimeDelta::minutes(25);

/// What a watchdog remembers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct State {
    /// The watchdog, as in `[watch.NAME]`.
    pub agent: Label,
    /// When its loop was last seen alive: written after every check and every five minutes in between.
    pub heartbeat: DateTime<Utc>,
    /// When it last checked.
    pub checked: Option<DateTime<Utc>>,
    /// When it will check next.
    pub due: Option<DateTime<Utc>>,
    /// What the last check found.
    pub last: Option<Verdict>,
    /// Misses in a row; busy and offline neither count nor interrupt.
    pub misses: u32,
    /// The first of them.
    pub missing_since: Option<DateTime<Utc>>,
    /// The first busy verdict since the last ok.
    pub busy_since: Option<DateTime<Utc>>,
    /// What an alert was raised for and is not over.
    pub open: BTreeMap<String, Open>,
    /// One entry for each hour with a check, oldest first, seven days at most.
    pub hours: Vec<Hour>,
    /// What the check itself remembers.
    #[serde(default)]
    pub memory: Value,
}

/// Something that an alert was raised for and that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Open {
    /// The alert's id; repetitions and "recovered" add to it.
    pub id: String,
    /// The alert's title.
    pub title: String,
    /// Since when it holds.
    pub since: DateTime<Utc>,
    /// When its last alert was raised: written to the log and put into the spool.
    pub told: DateTime<Utc>,
    /// How many alerts were raised.
    pub times: u32,
    /// When a channel last accepted one of them; none while no channel has, and nothing but the log knows of it.
    #[serde(default)]
    pub notified: Option<DateTime<Utc>>,
    /// What was wrong when the last alert was raised, thing by thing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub wrongs: BTreeSet<String>,
}

/// The checks of one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Hour {
    /// Hours since 1970-01-01 00:00 UTC.
    pub hour: i64,
    /// Verdicts of this kind.
    pub ok: u32,
    /// Verdicts of this kind.
    pub miss: u32,
    /// Verdicts of this kind.
    pub busy: u32,
    /// Verdicts of this kind.
    pub offline: u32,
    /// Milliseconds that the ok answers took, together.
    pub latency_ms: u64,
}

/// How often a target was well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Ok verdicts per ok and missed ones, 0 to 1; none without either.
    pub success: Option<f64>,
    /// Checks, of whatever verdict.
    pub checks: u64,
    /// How long an ok answer took on average, in milliseconds.
    pub latency_ms: Option<f64>,
}

/// A state that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refuses to read it.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{} is damaged ({why}); remove it, and what it remembered is forgotten", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// The system refuses to write it.
    #[error("cannot write {}: {source}; a restart would forget what happened since", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl State {
    /// Of a watchdog that has seen nothing yet.
    pub fn new(agent: Label, now: DateTime<Utc>) -> Self {
        Self {
            agent,
            heartbeat: now,
            checked: None,
            due: None,
            last: None,
            misses: 0,
            missing_since: None,
            busy_since: None,
            open: BTreeMap::new(),
            hours: Vec::new(),
            memory: Value::Null,
        }
    }

    /// Reads the file; none if there is none.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Option<Self>, StateError> {
        let bytes = match files::read(path, LARGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| StateError::Read {
                path: path.to_owned(),
                source,
            })?,
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| StateError::Form {
                path: path.to_owned(),
                why: error.to_string(),
            })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), StateError> {
        let failed = |source| StateError::Write {
            path: path.to_owned(),
            source,
        };
        let mut bytes = serde_json::to_vec(self)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        bytes.push(b'\n');
        atomic::write(path, &bytes, 0o600).map_err(failed)
    }

    /// Why the watchdog seems to have stopped watching; none if it is alive.
    pub fn stopped(&self, now: DateTime<Utc>) -> Option<String> {
        self.silent_since(now).map(|since| {
            format!(
                "{} gave its last sign of life {} ago",
                self.agent,
                age(now - since)
            )
        })
    }

    /// When the watchdog gave its last sign of life, if that is too long ago for one that lives. Its loop writes a
    /// heartbeat every five minutes; a check of its own may take up to fifteen.
    pub fn silent_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (now - self.heartbeat > SILENCE).then_some(self.heartbeat)
    }

    /// When the watchdog checked last and when it should have checked next, if that is past by more than a check can
    /// take: its loop lives, and does not check.
    pub fn overdue(
        &self,
        schedule: &Schedule,
        now: DateTime<Utc>,
    ) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let checked = self.checked?;
        let due = schedule.due(Some(checked), now, now);
        (now - due > SILENCE).then_some((checked, due))
    }

    /// The rates of the last `hours` hours, this one included.
    pub fn rates(&self, hours: i64, now: DateTime<Utc>) -> Rates {
        let first = hour_of(now) - hours + 1;
        let kept = self.hours.iter().filter(|hour| hour.hour >= first);
        let all = kept.fold(Hour::default(), |sum, hour| Hour {
            hour: 0,
            ok: sum.ok + hour.ok,
            miss: sum.miss + hour.miss,
            busy: sum.busy + hour.busy,
            offline: sum.offline + hour.offline,
            latency_ms: sum.latency_ms + hour.latency_ms,
        });
        let counted = f64::from(all.ok + all.miss);
        let ok = f64::from(all.ok);
        Rates {
            success: (counted > 0.0).then(|| ok / counted),
            checks: u64::from(all.ok)
                + u64::from(all.miss)
                + u64::from(all.busy)
                + u64::from(all.offline),
            latency_ms: (all.ok > 0).then(|| all.latency_ms as f64 / ok),
        }
    }

    /// Notes that a channel has accepted the alert of this id.
    pub(crate) fn accepted(&mut self, id: &str, now: DateTime<Utc>) {
        for open in self.open.values_mut() {
            let repetition = id.strip_prefix(open.id.as_str());
            // The first alert of a condition has its id, those after it have a number behind it.
            let is_one = repetition.is_some_and(|rest| {
                rest.is_empty()
                    || rest
                        .strip_prefix('-')
                        .is_some_and(|number| number.parse::<u32>().is_ok())
            });
            if is_one {
                open.notified = Some(now);
            }
        }
    }

    /// Counts a verdict.
    pub(crate) fn count(&mut self, verdict: &Verdict, now: DateTime<Utc>) {
        let this = hour_of(now);
        // Hours of a clock that ran ahead would never leave.
        self.hours.retain(|hour| hour.hour <= this);
        if self.hours.last().is_none_or(|hour| hour.hour != this) {
            self.hours.push(Hour {
                hour: this,
                ..Hour::default()
            });
        }
        let surplus = self.hours.len().saturating_sub(KEPT);
        self.hours.drain(..surplus);
        self.hours.retain(|hour| hour.hour > this - KEPT as i64);
        let Some(hour) = self.hours.last_mut() else {
            return;
        };
        match verdict.kind {
            Kind::Ok => {
                hour.ok += 1;
                let latency = verdict.latency.unwrap_or_default().as_millis();
                hour.latency_ms += u64::try_from(latency).unwrap_or_default();
            }
            Kind::Miss => hour.miss += 1,
            Kind::Busy => hour.busy += 1,
            Kind::Offline => hour.offline += 1,
        }
    }
}

fn hour_of(time: DateTime<Utc>) -> i64 {
    time.timestamp().div_euclid(3600)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn state() -> (State, DateTime<Utc>) {
        let now = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
        (State::new("canary".parse().unwrap(), now), now)
    }

    fn verdict(kind: Kind) -> Verdict {
        Verdict::new(kind, "seen").after(Duration::from_millis(500))
    }

    #[test]
    fn rates_are_of_a_day_and_of_a_week_and_the_file_stays_small() {
        let (mut state, begin) = state();
        let mut now = begin;
        for hour in 0..1000 {
            now = begin + TimeDelta::hours(hour);
            let kind = if hour >= 990 { Kind::Miss } else { Kind::Ok };
            state.count(&verdict(kind), now);
            state.count(&verdict(Kind::Busy), now);
        }
        assert_eq!(state.hours.len(), KEPT);
        assert!(serde_json::to_vec(&state).unwrap().len() < 20_000);
        let day = state.rates(24, now);
        assert_eq!((day.success, day.checks), (Some(14.0 / 24.0), 48));
        assert_eq!(day.latency_ms, Some(500.0));
        assert_eq!(state.rates(168, now).success, Some(158.0 / 168.0));
        assert_eq!(state.rates(24, now + TimeDelta::days(9)).success, None);
        // After a month without it, and after the clock was set back.
        state.count(&verdict(Kind::Ok), now + TimeDelta::days(30));
        assert_eq!(state.hours.len(), 1);
        state.count(&verdict(Kind::Ok), now);
        assert_eq!(state.hours.len(), 1);
    }

    #[test]
    fn what_is_written_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watch/canary.json");
        assert_eq!(State::read(&path).unwrap(), None);
        let (mut state, now) = state();
        state.last = Some(verdict(Kind::Miss).next("curl http://127.0.0.1:1337/health"));
        state.count(&verdict(Kind::Miss), now);
        state.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), Some(state.clone()));
        assert_eq!(state.stopped(now), None);
        let said = state.stopped(now + TimeDelta::minutes(564_480)).unwrap();
        assert_eq!(said, "canary gave its last sign of life 392 days ago");
        let hourly = Schedule::Every(Duration::from_secs(3600));
        state.checked = Some(now);
        assert_eq!(state.overdue(&hourly, now + TimeDelta::minutes(80)), None);
        assert_eq!(
            state.overdue(&hourly, now + TimeDelta::minutes(90)),
            Some((now, now + TimeDelta::hours(1)))
        );
        state.checked = None;
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(State::read(&path), Err(StateError::Form { .. })));
    }
}
