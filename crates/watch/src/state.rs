//! What a watchdog remembers: a small JSON file, written whole or not at all after every round, so that nothing is lost in
//! a restart. Drift reads its heartbeat, and `sanctum-launchd status` its rates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use sanctum_config::{Label, RecordError, record};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::age;
use crate::alert::{AlertText, Severity};
use crate::heartbeat_url::HeartbeatStatus;
use crate::schedule::Schedule;
use crate::verdict::{Verdict, VerdictKind};

/// The hours that are kept: seven days.
const KEPT: usize = 7 * 24;

/// The loop wakes at least this often and writes its heartbeat.
pub(crate) const PULSE: TimeDelta = TimeDelta::minutes(5);

/// A watchdog without a heartbeat for this long has stopped.
const SILENCE: TimeDelta = TimeDelta::minutes(25);

/// What a watchdog remembers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct WatchdogState {
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
    /// Misses in a row, counted here only; busy and offline verdicts do not change it.
    pub misses: u32,
    /// When the first of them was.
    pub missing_since: Option<DateTime<Utc>>,
    /// The first busy verdict since the last ok.
    pub busy_since: Option<DateTime<Utc>>,
    /// The last ok verdict.
    #[serde(default)]
    pub last_ok: Option<DateTime<Utc>>,
    /// The alert that this watchdog would raise, if another one had not alerted about the same cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<CoveredAlert>,
    /// The last request of `heartbeat_url`; none without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_url: Option<HeartbeatStatus>,
    /// The open conditions, each with its alerts.
    pub open: BTreeMap<String, OpenCondition>,
    /// The notices of actions whose outcome is not known, because the process ended before they did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) interrupted: Vec<InterruptedAction>,
    /// One entry for each hour with a check, oldest first, seven days at most.
    pub hours: Vec<Hour>,
    /// What the check itself remembers.
    #[serde(default)]
    pub memory: Value,
}

/// An alert that is not raised, because another watchdog's alert has the same cause.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct CoveredAlert {
    /// The watchdog that reports the cause.
    pub by: Label,
    /// What this one observes.
    pub message: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A condition that an alert was raised for and that is not closed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct OpenCondition {
    /// The alert's id; repetitions and "recovered" add to it.
    pub id: String,
    /// The alert's title.
    pub title: String,
    /// How urgent its last alert is; none in the state of an older version.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// Whether the server gave wrong answers, rather than none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_wrong_answer: bool,
    /// Since when it is open.
    pub since: DateTime<Utc>,
    /// When its last alert was raised: written to the log and the spool.
    pub alerted: DateTime<Utc>,
    /// How many alerts were raised.
    pub alerts: u32,
    /// When a channel last accepted one of them; none if no channel has, so that they are in the log only.
    #[serde(default)]
    pub notified: Option<DateTime<Utc>>,
    /// The problems that were alerted about since the last cooldown.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub problems: BTreeSet<String>,
}

/// The condition to open if this process ends before an action's outcome is known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct InterruptedAction {
    pub(crate) key: String,
    pub(crate) stage: String,
    #[serde(flatten)]
    pub(crate) text: AlertText,
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
    /// The sum of the ok answers' times, in milliseconds.
    pub latency_ms: u64,
}

/// The success rate of a target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Ok verdicts per ok and missed ones, 0 to 1; none without either.
    pub success: Option<f64>,
    /// Checks with any verdict.
    pub checks: u64,
    /// The average time of an ok answer, in milliseconds.
    pub latency_ms: Option<f64>,
}

impl WatchdogState {
    /// The state of a watchdog that has not checked yet.
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
            last_ok: None,
            covered: None,
            heartbeat_url: None,
            open: BTreeMap::new(),
            interrupted: Vec::new(),
            hours: Vec::new(),
            memory: Value::Null,
        }
    }

    /// Reads the file; none if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        record::read(path)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        record::write(path, self)
    }

    /// Why the watchdog seems to have stopped; none if it is running.
    pub fn stopped(&self, now: DateTime<Utc>) -> Option<String> {
        self.silent_since(now).map(|since| {
            format!(
                "{} has written no heartbeat for {}",
                self.agent,
                age(now - since)
            )
        })
    }

    /// The watchdog's last heartbeat, if that is too old for one that runs: its loop writes one every five minutes, and a
    /// check may take up to fifteen.
    pub fn silent_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (now - self.heartbeat > SILENCE).then_some(self.heartbeat)
    }

    /// When the watchdog checked last and when its next check was due, if that is overdue by more than a check can take:
    /// its loop runs, and does not check.
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

    /// Counts a verdict. `misses` is the number of misses in a row, if the check counts them itself.
    pub(crate) fn count(&mut self, verdict: &Verdict, misses: Option<u32>, now: DateTime<Utc>) {
        self.misses = misses.unwrap_or(match verdict.kind {
            VerdictKind::Ok => 0,
            VerdictKind::Miss => self.misses + 1,
            VerdictKind::Busy | VerdictKind::Offline => self.misses,
            VerdictKind::Stopped => 0,
        });
        match verdict.kind {
            VerdictKind::Ok => {
                self.missing_since = None;
                self.busy_since = None;
                self.last_ok = Some(now);
            }
            VerdictKind::Miss => {
                self.missing_since.get_or_insert(now);
            }
            VerdictKind::Busy => {
                self.busy_since.get_or_insert(now);
            }
            // The target's state is not known meanwhile.
            VerdictKind::Offline => self.busy_since = None,
            // It counts in no hour: the success rate is that of a target that should answer.
            VerdictKind::Stopped => {
                self.missing_since = None;
                self.busy_since = None;
                return;
            }
        }
        let this = hour_of(now);
        // Hours in the future, of a clock that ran ahead, would never expire.
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
            VerdictKind::Ok => {
                hour.ok += 1;
                let latency = verdict.latency.unwrap_or_default().as_millis();
                hour.latency_ms += u64::try_from(latency).unwrap_or_default();
            }
            VerdictKind::Miss => hour.miss += 1,
            VerdictKind::Busy => hour.busy += 1,
            VerdictKind::Offline => hour.offline += 1,
            VerdictKind::Stopped => {}
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

    fn state() -> (WatchdogState, DateTime<Utc>) {
        let now = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
        (WatchdogState::new("canary".parse().unwrap(), now), now)
    }

    fn verdict(kind: VerdictKind) -> Verdict {
        Verdict::new(kind, "seen").after(Duration::from_millis(500))
    }

    #[test]
    fn rates_cover_a_day_or_a_week_and_the_file_stays_small() {
        let (mut state, begin) = state();
        let mut now = begin;
        for hour in 0..1000 {
            now = begin + TimeDelta::hours(hour);
            let kind = if hour >= 990 {
                VerdictKind::Miss
            } else {
                VerdictKind::Ok
            };
            state.count(&verdict(kind), None, now);
            state.count(&verdict(VerdictKind::Busy), None, now);
        }
        assert_eq!(state.hours.len(), KEPT);
        assert!(serde_json::to_vec(&state).unwrap().len() < 20_000);
        let day = state.rates(24, now);
        assert_eq!((day.success, day.checks), (Some(14.0 / 24.0), 48));
        assert_eq!(day.latency_ms, Some(500.0));
        assert_eq!(state.rates(168, now).success, Some(158.0 / 168.0));
        assert_eq!(state.rates(24, now + TimeDelta::days(9)).success, None);
        // After a month without it, and after the clock was set back.
        state.count(&verdict(VerdictKind::Ok), None, now + TimeDelta::days(30));
        assert_eq!(state.hours.len(), 1);
        state.count(&verdict(VerdictKind::Ok), None, now);
        assert_eq!(state.hours.len(), 1);
    }

    #[test]
    fn stopped_target_counts_in_no_rate_and_ends_misses_in_a_row() {
        let (mut state, now) = state();
        state.count(&verdict(VerdictKind::Miss), None, now);
        assert_eq!(state.misses, 1);
        for _ in 0..100 {
            state.count(&verdict(VerdictKind::Stopped), None, now);
        }
        assert_eq!((state.misses, state.missing_since), (0, None));
        state.count(&verdict(VerdictKind::Ok), None, now);
        let rates = state.rates(24, now);
        assert_eq!((rates.success, rates.checks), (Some(0.5), 2));
    }

    #[test]
    fn state_that_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watch/canary.json");
        assert_eq!(WatchdogState::read(&path).unwrap(), None);
        let (mut state, now) = state();
        state.last = Some(verdict(VerdictKind::Miss).next("curl http://127.0.0.1:1337/health"));
        state.count(&verdict(VerdictKind::Miss), None, now);
        state.write(&path).unwrap();
        assert_eq!(WatchdogState::read(&path).unwrap(), Some(state.clone()));
        assert_eq!(state.stopped(now), None);
        let message = state.stopped(now + TimeDelta::minutes(564_480)).unwrap();
        assert_eq!(message, "canary has written no heartbeat for 392 days");
        let hourly = Schedule::Every(Duration::from_secs(3600));
        state.checked = Some(now);
        assert_eq!(state.overdue(&hourly, now + TimeDelta::minutes(80)), None);
        assert_eq!(
            state.overdue(&hourly, now + TimeDelta::minutes(90)),
            Some((now, now + TimeDelta::hours(1)))
        );
        state.checked = None;
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(
            WatchdogState::read(&path),
            Err(RecordError::Form { .. })
        ));
    }
}
