//! Lengths of time in messages.

use chrono::TimeDelta;

/// A length of time in its largest sensible unit: `45 seconds`, `12 minutes`, `3 hours`, `392 days`. A negative one, after
/// the clock was set back, is `0 seconds`.
pub fn age(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    // Two of a unit at least, so that rounding down hides less than half.
    let (number, unit) = match seconds {
        ..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    match number {
        1 => format!("1 {unit}"),
        _ => format!("{number} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_in_its_largest_sensible_unit() {
        for (seconds, text) in [
            (-5, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7_199, "119 minutes"),
            (7_200, "2 hours"),
            (172_799, "47 hours"),
            (172_800, "2 days"),
            (564_480 * 60, "392 days"),
        ] {
            assert_eq!(age(TimeDelta::seconds(seconds)), text);
        }
    }
}
