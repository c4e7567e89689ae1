//! When a watchdog checks: at an interval, or at the times of a crontab line.
//!
//! A crontab line is in local time. When the clocks change, a time that spring skips moves by as much as was skipped (02:30
//! becomes 03:30), and a time that autumn repeats counts once, the first time. So a nightly check runs once every night. A
//! check that was due while the host was asleep, or the watchdog not running, runs once as soon as possible.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Datelike, Local, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone, Utc};
use sanctum_config::fleet::Watch;

/// When to check.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// At this interval.
    Every(Duration),
    /// At these times.
    At(Box<Crontab>),
}

/// A crontab line: `minute hour day-of-month month day-of-week`, see crontab(5).
#[derive(Clone, Debug)]
pub struct Crontab {
    line: String,
    times: cron::Schedule,
    /// The days of month and of week, if a day must match only one of them.
    either_day: Option<(BTreeSet<u32>, BTreeSet<u32>)>,
}

/// A schedule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// Neither `every` nor `at`.
    #[error("there is no schedule; write `every = \"10m\"` or `at = \"0 3 * * *\"`")]
    None,
    /// Not five fields.
    #[error(
        "`at = \"{0}\"` is not a crontab line; write five fields: minute hour day-of-month month day-of-week, as in \"0 3 * * *\""
    )]
    Fields(String),
    /// A field that is out of range.
    #[error("`at = \"{line}\"`: the {field} `{text}` is not within {first}-{last}")]
    Field {
        /// The line.
        line: String,
        /// Which field.
        field: &'static str,
        /// Its value.
        text: String,
        /// The least value.
        first: u32,
        /// The greatest value.
        last: u32,
    },
    /// A line such as `0 0 31 2 *`.
    #[error("`at = \"{0}\"` never occurs: there is no such day")]
    Never(String),
}

struct CronField {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names for `first` and what follows.
    names: &'static [&'static str],
}

const FIELDS: [CronField; 5] = [
    field("minute", 0, 59, &[]),
    field("hour", 0, 23, &[]),
    field("day of the month", 1, 31, &[]),
    field(
        "month",
        1,
        12,
        &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    ),
    // Sunday is 0 and 7.
    field(
        "day of the week",
        0,
        7,
        &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    ),
];

const fn field(
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
) -> CronField {
    CronField {
        name,
        first,
        last,
        names,
    }
}

/// The longest change of the clocks; no country has a longer one.
const LONGEST_CHANGE: TimeDelta = TimeDelta::hours(3);

impl Schedule {
    /// The schedule of a `[watch.NAME]`.
    ///
    /// # Errors
    /// If it has none, or a crontab line that cannot be used.
    pub fn of(watch: &Watch) -> Result<Self, BadSchedule> {
        match (watch.every, &watch.at) {
            (Some(every), _) => Ok(Self::Every(every)),
            (None, Some(line)) => line.parse().map(|line| Self::At(Box::new(line))),
            (None, None) => Err(BadSchedule::None),
        }
    }

    /// When the next check is due, after one at `checked`. Without one: at once, or at the line's first time after `since`,
    /// when the watchdog was started. (Counted from `now`, it would always be in the future.)
    pub fn due(
        &self,
        checked: Option<DateTime<Utc>>,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        match (self, checked) {
            // A check in the future was made before the clock was set back.
            (Self::Every(every), Some(checked)) if checked <= now => TimeDelta::from_std(*every)
                .ok()
                .and_then(|every| checked.checked_add_signed(every))
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
            (Self::Every(_), _) => now,
            (Self::At(line), checked) => {
                let after = checked.filter(|checked| *checked <= now);
                let after = after.unwrap_or(since.min(now));
                line.next_after(after, |local| {
                    Local
                        .from_local_datetime(&local)
                        .map(|time| time.with_timezone(&Utc))
                })
                .unwrap_or(DateTime::<Utc>::MAX_UTC)
            }
        }
    }

    /// The pause before a check that is due is tried again.
    pub fn soon(&self) -> TimeDelta {
        const SOON: TimeDelta = TimeDelta::seconds(5);
        match self {
            Self::Every(every) => TimeDelta::from_std(*every).map_or(SOON, |every| every.min(SOON)),
            Self::At(_) => SOON,
        }
    }
}

impl Crontab {
    /// The first time after `after`; `here` maps local times.
    fn next_after(
        &self,
        after: DateTime<Utc>,
        here: impl Fn(NaiveDateTime) -> MappedLocalTime<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        // The crate computes in a zone without changes: local times, as if they were UTC.
        let local = after.with_timezone(&Local).naive_local() - LONGEST_CHANGE;
        self.times
            .after(&local.and_utc())
            .filter(|time| self.either_day.as_ref().is_none_or(|days| fits(days, time)))
            .filter_map(|time| kept(time.naive_utc(), &here))
            .find(|time| *time > after)
    }
}

fn fits((of_month, of_week): &(BTreeSet<u32>, BTreeSet<u32>), time: &DateTime<Utc>) -> bool {
    of_month.contains(&time.day()) || of_week.contains(&time.weekday().num_days_from_sunday())
}

/// The moment of a local time, with changes of the clocks.
fn kept(
    local: NaiveDateTime,
    here: impl Fn(NaiveDateTime) -> MappedLocalTime<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    let quarter = TimeDelta::minutes(15);
    let mut shift = TimeDelta::zero();
    // In a gap: step back to the time before it in quarters of an hour, and add as much.
    while shift <= LONGEST_CHANGE {
        match here(local - shift) {
            MappedLocalTime::Single(time) => return Some(time + shift),
            // The earlier of the two, in whichever order the zone gives them.
            MappedLocalTime::Ambiguous(one, other) => return Some(one.min(other) + shift),
            MappedLocalTime::None => shift += quarter,
        }
    }
    None
}

impl FromStr for Crontab {
    type Err = BadSchedule;

    fn from_str(line: &str) -> Result<Self, BadSchedule> {
        let texts: Vec<&str> = line.split_whitespace().collect();
        if texts.len() != FIELDS.len() {
            return Err(BadSchedule::Fields(line.to_owned()));
        }
        let mut sets = Vec::new();
        for (text, field) in texts.iter().zip(&FIELDS) {
            let set = field.parse(text).ok_or_else(|| BadSchedule::Field {
                line: line.to_owned(),
                field: field.name,
                text: (*text).to_owned(),
                first: field.first,
                last: field.last,
            })?;
            sets.push(set);
        }
        let of_week: BTreeSet<u32> = sets[4].iter().map(|day| day % 7).collect();
        // crontab(5): if both fields of days are restricted, a day that matches either counts.
        let restricted = |text: &str| !text.starts_with('*');
        let either = restricted(texts[2]) && restricted(texts[4]);
        let list = |set: &mut dyn Iterator<Item = u32>| {
            set.map(|n| n.to_string()).collect::<Vec<_>>().join(",")
        };
        let written = |n: usize| list(&mut sets[n].iter().copied());
        // The crate has a field for seconds before the minutes and counts Sunday as 1.
        let (days, week) = match either {
            true => ("*".to_owned(), "*".to_owned()),
            false => (written(2), list(&mut of_week.iter().map(|day| day + 1))),
        };
        let translated = format!(
            "0 {} {} {days} {} {week}",
            written(0),
            written(1),
            written(3)
        );
        let times = cron::Schedule::from_str(&translated)
            .map_err(|_| BadSchedule::Fields(line.to_owned()))?;
        let crontab = Self {
            line: line.to_owned(),
            times,
            either_day: either.then(|| (sets[2].clone(), of_week)),
        };
        let from = DateTime::<Utc>::UNIX_EPOCH;
        match crontab.next_after(from, |local| MappedLocalTime::Single(local.and_utc())) {
            Some(_) => Ok(crontab),
            None => Err(BadSchedule::Never(line.to_owned())),
        }
    }
}

impl CronField {
    /// `*`, `5`, `1-5`, `mon-fri`, each with `/step`, and lists of them.
    fn parse(&self, text: &str) -> Option<BTreeSet<u32>> {
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(digits(step)?)),
                None => (part, None),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.first, self.last),
                Some((first, last)) => (self.value(first)?, self.value(last)?),
                // `5/10` is from 5 on.
                None if step.is_some() => (self.value(range)?, self.last),
                None => (self.value(range)?, self.value(range)?),
            };
            let step = step.unwrap_or(1);
            if step == 0 || first > last {
                return None;
            }
            set.extend((first..=last).step_by(usize::try_from(step).ok()?));
        }
        Some(set)
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().zip(self.first..);
        let value = named
            .filter(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, value)| value)
            .next();
        let value = value.or_else(|| digits(text))?;
        (self.first..=self.last).contains(&value).then_some(value)
    }
}

fn digits(text: &str) -> Option<u32> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

impl PartialEq for Crontab {
    fn eq(&self, other: &Self) -> bool {
        self.line == other.line
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => {
                let millis = every.as_millis();
                // As fleet.toml writes it, in the largest unit that fits.
                let units = [
                    ("d", 86_400_000),
                    ("h", 3_600_000),
                    ("m", 60_000),
                    ("s", 1000),
                ];
                let (unit, scale) = (units.into_iter())
                    .find(|(_, scale)| millis % scale == 0)
                    .unwrap_or(("ms", 1));
                write!(f, "every {}{unit}", millis / scale)
            }
            Self::At(line) => write!(f, "at {} (crontab, local time)", line.line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap()
    }

    fn crontab(line: &str) -> Crontab {
        line.parse().unwrap()
    }

    /// The next times in a zone without changes that happens to be UTC.
    fn times(line: &str, from: &str, count: usize) -> Vec<String> {
        let crontab = crontab(line);
        let mut now = at(from).and_utc();
        (0..count)
            .map(|_| {
                let shifted = now - offset_of(now);
                let next = crontab
                    .next_after(shifted, |local| {
                        MappedLocalTime::Single(local.and_utc() - offset_of(local.and_utc()))
                    })
                    .unwrap();
                now = next + offset_of(next);
                now.format("%a %Y-%m-%d %H:%M").to_string()
            })
            .collect()
    }

    /// The machine's own offset, so that these tests hold wherever they run.
    fn offset_of(time: DateTime<Utc>) -> TimeDelta {
        let local = time.with_timezone(&Local);
        TimeDelta::seconds(local.offset().local_minus_utc().into())
    }

    #[test]
    fn the_nightly_parity_check() {
        assert_eq!(
            times("0 3 * * *", "2026-04-18 02:59", 2),
            ["Sat 2026-04-18 03:00", "Sun 2026-04-19 03:00"]
        );
    }

    #[test]
    fn sunday_is_0_and_7_and_sun() {
        for line in ["30 4 * * 0", "30 4 * * 7", "30 4 * * SUN"] {
            assert_eq!(times(line, "2026-04-13 00:00", 1), ["Sun 2026-04-19 04:30"]);
        }
        assert_eq!(
            times("0 9 * * 1-5", "2026-04-17 09:00", 2),
            ["Mon 2026-04-20 09:00", "Tue 2026-04-21 09:00"]
        );
        assert_eq!(
            times("0 9 * * fri-7", "2026-04-17 09:00", 2),
            ["Sat 2026-04-18 09:00", "Sun 2026-04-19 09:00"]
        );
    }

    #[test]
    fn lists_ranges_and_steps() {
        assert_eq!(
            times("*/20,5 8-9 * * *", "2026-04-18 08:41", 3),
            [
                "Sat 2026-04-18 09:00",
                "Sat 2026-04-18 09:05",
                "Sat 2026-04-18 09:20"
            ]
        );
        assert_eq!(
            times("0 0 1 jan,jul *", "2026-04-18 00:00", 2),
            ["Wed 2026-07-01 00:00", "Fri 2027-01-01 00:00"]
        );
    }

    #[test]
    fn two_restricted_days_are_an_either_or_as_cron_has_it() {
        assert_eq!(
            times("0 0 20 * 5", "2026-04-16 00:00", 3),
            [
                "Fri 2026-04-17 00:00",
                "Mon 2026-04-20 00:00",
                "Fri 2026-04-24 00:00"
            ]
        );
    }

    #[test]
    fn a_line_that_cannot_be_kept_says_why() {
        let error = |line: &str| line.parse::<Crontab>().unwrap_err();
        assert_eq!(error("0 3 * *"), BadSchedule::Fields("0 3 * *".into()));
        assert!(matches!(error("@daily"), BadSchedule::Fields(_)));
        for line in [
            "60 3 * * *",
            "0 24 * * *",
            "0 0 0 * *",
            "0 0 * 13 *",
            "0 0 * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "+5 * * * *",
            ", * * * *",
        ] {
            assert!(matches!(error(line), BadSchedule::Field { .. }), "{line}");
        }
        assert_eq!(error("0 0 31 2 *"), BadSchedule::Never("0 0 31 2 *".into()));
        assert!(
            error("61 * * * *")
                .to_string()
                .contains("minute `61` is not within 0-59")
        );
    }

    /// A zone like Berlin's in 2026: an hour is skipped on March 29 at 02:00, repeated on October 25 at 03:00.
    fn berlin(local: NaiveDateTime) -> MappedLocalTime<DateTime<Utc>> {
        let utc = |hours| local.and_utc() - TimeDelta::hours(hours);
        let within = |from, to| at(from) <= local && local < at(to);
        if within("2026-03-29 02:00", "2026-03-29 03:00") {
            MappedLocalTime::None
        } else if within("2026-10-25 02:00", "2026-10-25 03:00") {
            MappedLocalTime::Ambiguous(utc(2), utc(1))
        } else if within("2026-03-29 03:00", "2026-10-25 03:00") {
            MappedLocalTime::Single(utc(2))
        } else {
            MappedLocalTime::Single(utc(1))
        }
    }

    #[test]
    fn a_skipped_time_is_kept_later_and_a_repeated_one_once() {
        // Skipped: 02:30 is kept at 03:30 summer time, which is 01:30 UTC.
        assert_eq!(
            kept(at("2026-03-29 02:30"), berlin),
            Some(at("2026-03-29 01:30").and_utc())
        );
        // Repeated: the first 02:30, in summer time.
        assert_eq!(
            kept(at("2026-10-25 02:30"), berlin),
            Some(at("2026-10-25 00:30").and_utc())
        );
    }

    /// The real local zone, with Berlin's rules: chrono gives the two times of the repeated hour in another order there
    /// than its documentation has it.
    #[test]
    fn real_local_zone_skipped_time_is_kept_later_and_repeated_one_once() {
        const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
        // The zone belongs to the whole process, so another one tries it.
        if std::env::var("TZ").as_deref() != Ok(ZONE) {
            let name = "real_local_zone_skipped_time_is_kept_later_and_repeated_one_once";
            let said = std::process::Command::new(std::env::current_exe().unwrap())
                .arg(name)
                .env("TZ", ZONE)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&said.stdout);
            assert!(said.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let runs = |line: &str, from: &str, count: usize| -> Vec<String> {
            let schedule = Schedule::At(Box::new(crontab(line)));
            let mut now = at(from).and_utc();
            let next = |_| {
                now = schedule.due(Some(now), now, now);
                now.format("%m-%d %H:%M").to_string()
            };
            (0..count).map(next).collect()
        };
        // In UTC. Skipped on March 29: 02:30 is kept at 03:30 summer time.
        assert_eq!(
            runs("30 2 * * *", "2026-03-27 12:00", 4),
            ["03-28 01:30", "03-29 01:30", "03-30 00:30", "03-31 00:30"]
        );
        // Repeated on October 25: the first 02:30, which is summer time, and once.
        assert_eq!(
            runs("30 2 * * *", "2026-10-23 12:00", 4),
            ["10-24 00:30", "10-25 00:30", "10-26 01:30", "10-27 01:30"]
        );
        // What is due between the two is not due again.
        assert_eq!(
            runs("0 2 * * *", "2026-10-25 00:00", 2),
            ["10-26 01:00", "10-27 01:00"]
        );
        assert_eq!(
            runs("0 3 * * *", "2026-03-28 12:00", 2),
            ["03-29 01:00", "03-30 01:00"]
        );
    }

    #[test]
    fn check_that_was_due_while_the_watchdog_was_stopped_runs_once() {
        let now = at("2026-04-18 12:00").and_utc();
        let ago = |hours| Some(now - TimeDelta::hours(hours));
        let every = Schedule::Every(Duration::from_secs(3600));
        assert_eq!(every.due(None, now, now), now);
        assert!(every.due(ago(30), now, now) < now);
        assert_eq!(every.due(ago(0), now, now), now + TimeDelta::hours(1));
        assert_eq!(every.due(ago(-5), now, now), now, "the clock was set back");
        let nightly = Schedule::At(Box::new(crontab("0 3 * * *")));
        assert!(nightly.due(ago(48), now, now) < now);
        assert!(nightly.due(None, now, now) > now);
    }

    #[test]
    fn nightly_check_that_has_never_run_runs_in_its_first_night() {
        let begun = at("2026-04-18 12:00").and_utc();
        let nightly = Schedule::At(Box::new(crontab("0 3 * * *")));
        let first = nightly.due(None, begun, begun);
        assert!(first > begun && first <= begun + TimeDelta::days(1));
        // The loop asks again and again while it waits.
        for minutes in [5, 60, 600] {
            let now = begun + TimeDelta::minutes(minutes);
            assert_eq!(nightly.due(None, begun, now), first);
        }
        assert!(nightly.due(None, begun, first) <= first);
        // The same after a clock that ran a year ahead was corrected: a check in the future does not count.
        let ahead = Some(begun + TimeDelta::days(365));
        assert!(nightly.due(ahead, begun, first) <= first);
    }
}
