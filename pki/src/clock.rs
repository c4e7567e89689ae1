//! Points and spans of time, to the second, as certificates have them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::PkiError;

/// How far the clocks of two hosts of a fleet may differ: a period that begins now begins this much earlier.
const SKEW: Duration = Duration::minutes(5);

/// A second, in UTC, of a year that a certificate can hold (1950 to 9999).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Moment(OffsetDateTime);

/// Not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a moment: write 2026-11-30 or 2026-11-30T12:00:00Z, in the years 1950 to 9999"
)]
pub struct BadMoment(String);

/// A number of days, as `--within` takes it: `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub u32);

/// Not a number of days.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number of days; write for example 30d")]
pub struct BadDays(String);

/// A validity period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidityPeriod {
    /// The first moment.
    pub not_before: Moment,
    /// The last moment.
    pub not_after: Moment,
}

impl Moment {
    /// The current second.
    pub fn now() -> Self {
        Self::from(OffsetDateTime::now_utc())
    }

    /// So many days later, or the last second that there is.
    pub fn plus(self, days: u32) -> Self {
        let later = self.0.checked_add(Duration::days(days.into()));
        later.map_or(Self::last(), Self::from).min(Self::last())
    }

    /// Whole days until `other`, rounded down; negative once it is past.
    pub fn days_until(self, other: Self) -> i64 {
        (other.0 - self.0).whole_seconds().div_euclid(86_400)
    }

    /// A little earlier, so that a host whose clock is behind agrees that it has begun.
    pub fn less_skew(self) -> Self {
        Self(self.0.saturating_sub(SKEW))
    }

    /// As rcgen takes it.
    pub(crate) fn to_time(self) -> OffsetDateTime {
        self.0
    }

    /// `2026-11-30`.
    pub fn date(self) -> String {
        self.0.date().to_string()
    }

    fn last() -> Self {
        let year_9999 = OffsetDateTime::from_unix_timestamp(253_402_300_799);
        Self(year_9999.unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }
}

impl ValidityPeriod {
    /// So many days from `not_before`, or from now (and then a little into the past, for clocks that are behind).
    pub fn new(not_before: Option<Moment>, days: u32, now: Moment) -> Self {
        Self {
            not_before: not_before.unwrap_or_else(|| now.less_skew()),
            not_after: not_before.unwrap_or(now).plus(days),
        }
    }

    /// The same, ended by the end of `other` if that comes first.
    pub fn within(self, other: Moment) -> Self {
        Self {
            not_after: self.not_after.min(other),
            ..self
        }
    }
}

impl From<OffsetDateTime> for Moment {
    fn from(time: OffsetDateTime) -> Self {
        let time = time.to_offset(UtcOffset::UTC);
        Self(time.replace_nanosecond(0).unwrap_or(time))
    }
}

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        let whole = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            _ => text.to_owned(),
        };
        let bad = || BadMoment(text.to_owned());
        let time = OffsetDateTime::parse(&whole, &Rfc3339).map_err(|_| bad())?;
        // Near either end of what there is, another offset's year may not exist in UTC.
        let time = time.checked_to_offset(UtcOffset::UTC).ok_or_else(bad)?;
        match (1950..=9999).contains(&time.year()) {
            true => Ok(Self::from(time)),
            false => Err(bad()),
        }
    }
}

impl TryFrom<String> for Moment {
    type Error = BadMoment;

    fn try_from(text: String) -> Result<Self, BadMoment> {
        text.parse()
    }
}

/// As RFC 3339 writes it: `2026-11-30T12:00:00Z`.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.format(&Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for Days {
    type Err = BadDays;

    fn from_str(text: &str) -> Result<Self, BadDays> {
        let number = text.strip_suffix('d').unwrap_or_default();
        let plain = number.bytes().all(|byte| byte.is_ascii_digit());
        match number.parse() {
            Ok(days) if plain => Ok(Self(days)),
            _ => Err(BadDays(text.to_owned())),
        }
    }
}

impl ValidityPeriod {
    /// Refuses a span that ends before it begins.
    ///
    /// # Errors
    /// If it does: the CA's own end came first.
    pub fn checked(self) -> Result<Self, PkiError> {
        match self.not_before < self.not_after {
            true => Ok(self),
            false => Err(PkiError::Refused(format!(
                "cannot issue a certificate that begins {}: the CA expires {}; replace it with `sanctum-pki rotate-ca`",
                self.not_before, self.not_after
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moment(text: &str) -> Moment {
        text.parse().unwrap()
    }

    #[test]
    fn moments_are_dates_or_rfc_3339() {
        assert_eq!(moment("2026-11-30"), moment("2026-11-30T00:00:00Z"));
        assert_eq!(moment("2026-11-30T01:00:00.5+01:00"), moment("2026-11-30"));
        assert_eq!(moment("2026-11-30").to_string(), "2026-11-30T00:00:00Z");
        for bad in [
            "",
            "2026-13-01",
            "1949-12-31",
            "tomorrow",
            "0000-01-01T00:00:00+23:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_begins_now_has_begun_for_clocks_that_are_behind() {
        let now = moment("2026-11-30");
        let validity = ValidityPeriod::new(None, 1, now);
        assert_eq!(validity.not_before, moment("2026-11-29T23:55:00Z"));
        assert_eq!(validity.not_after, moment("2026-12-01"));
        let given = ValidityPeriod::new(Some(moment("2020-01-01")), 2, now);
        assert_eq!(given.not_after, moment("2020-01-03"));
        assert!(validity.checked().is_ok());
        assert!(validity.within(moment("2026-01-01")).checked().is_err());
        assert_eq!(now.days_until(moment("2026-12-01T23:00:00Z")), 1);
        assert_eq!(now.days_until(moment("2026-11-29T23:00:00Z")), -1);
        assert_eq!(now.plus(u32::MAX).to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn days_have_a_d() {
        assert_eq!("30d".parse(), Ok(Days(30)));
        for bad in ["30", "d", "+3d", "-3d", "3h", "99999999999d"] {
            assert!(bad.parse::<Days>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9TZ:.+-]{0,30}", days in any::<u32>()) {
            let _ = text.parse::<Days>();
            if let Ok(moment) = text.parse::<Moment>() {
                prop_assert_eq!(moment.to_string().parse(), Ok(moment));
                let _ = ValidityPeriod::new(Some(moment), days, Moment::now());
            }
        }
    }
}
