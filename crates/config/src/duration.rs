//! Durations as `fleet.toml` writes them: `"60s"`, `"10m"`, `"1h"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A whole number and a unit: `ms`, `s`, `m`, `h` or `d`. Nothing else, and no default unit: `timeout = 10` would
/// leave a reader guessing.
fn parse(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "`{text}` is not a duration; write a number and a unit: \"500ms\", \"60s\", \"10m\", \"1h\", \"7d\""
        )
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    match number.checked_mul(*scale) {
        Some(0) => Err(format!("`{text}` is no time at all; write more than zero")),
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => Err(bad()),
    }
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
    fn a_number_and_a_unit() {
        assert_eq!(parse("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn anything_else_says_what_to_write() {
        for bad in [
            "",
            "60",
            "s",
            "1.5h",
            "-1s",
            "1 s",
            "0s",
            "99999999999999999999s",
            "99999999999999999d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("60").unwrap_err().contains("\"60s\""));
    }
}
