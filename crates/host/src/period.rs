//! Periods that an operator or a command has opened, and that end by themselves: a lease, a maintenance window, a mute.

use chrono::{DateTime, TimeDelta, Utc};

/// A clock is set back by less than this in normal operation.
const SET_BACK: TimeDelta = TimeDelta::minutes(1);

/// Whether the period from `since` to `until` lasts at `now`. A period from the future was opened before the clock was set
/// back, and would last until then; it does not count.
pub fn is_in_period(now: DateTime<Utc>, since: DateTime<Utc>, until: DateTime<Utc>) -> bool {
    now < until && since - now <= SET_BACK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_ends_at_its_end_and_when_the_clock_was_set_back() {
        let since = DateTime::from_timestamp(1_776_000_000, 0).unwrap();
        let until = since + TimeDelta::hours(1);
        for (minutes, lasts) in [(0, true), (59, true), (60, false), (-1, true), (-2, false)] {
            let now = since + TimeDelta::minutes(minutes);
            assert_eq!(is_in_period(now, since, until), lasts, "{minutes}");
        }
    }
}
