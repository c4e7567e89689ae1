//! Durations in `fleet.toml`: `"60s"`, `"10m"`, `"1h 30m"`, as the crate `humantime` reads them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// The longest duration. Times that are computed with it must not overflow.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// A number and a unit, or several of them. There is no default unit, and zero is an error: `timeout = 10` would be
/// ambiguous, and a timeout of zero cannot be met.
///
/// # Errors
/// A sentence with the value and examples.
pub fn parse(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| {
        format!(
            "`{text}` is not a duration ({error}); write a number and a unit: \"500ms\", \"60s\", \"10m\", \"1h\", \"7d\""
        )
    })?;
    if duration.is_zero() {
        return Err(format!("the duration `{text}` is zero; write more"));
    }
    if duration > LONGEST {
        return Err(format!(
            "the duration `{text}` is longer than ten years; write less, such as \"7d\""
        ));
    }
    Ok(duration)
}

/// For serde's `deserialize_with`: an optional duration.
pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_a_number_with_a_unit_or_several() {
        assert_eq!(parse("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn duration_of_another_form_is_an_error_with_an_example() {
        for bad in ["", "60", "s", "-1s", "0s", "300y", "99999999999999999999s"] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains("write"), "{bad}: {error}");
        }
        assert!(parse("60").unwrap_err().contains("\"60s\""));
    }
}
