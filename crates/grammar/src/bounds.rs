//! Excluded bounds of numbers.

use serde_json::{Map, Value};

/// How far inside of an excluded bound an included one is, relative to the bound.
const INSIDE: f64 = 1e-9;

/// Makes excluded bounds of a number included ones, a little inside: the compiler accepts some excluded bounds, such as -3
/// for `exclusiveMaximum: -3`. An error is the keyword that leaves no number.
pub(crate) fn include_bounds(object: &mut Map<String, Value>) -> Result<(), &'static str> {
    let bound = |object: &Map<String, Value>, key: &str| object.get(key).and_then(Value::as_f64);
    let bounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
    let scale = bounds
        .iter()
        .filter_map(|key| bound(object, key))
        .map(f64::abs)
        .filter(|value| *value > 0.0)
        .fold(1.0, f64::min);
    let mut excluded_by = None;
    for (excluded, included, sign) in [
        ("exclusiveMaximum", "maximum", -1.0),
        ("exclusiveMinimum", "minimum", 1.0),
    ] {
        let Some(excluded_bound) = bound(object, excluded) else {
            continue;
        };
        let ulp = (excluded_bound.abs().next_up() - excluded_bound.abs()).max(f64::MIN_POSITIVE);
        let step = match excluded_bound {
            0.0 => scale * INSIDE,
            other => (other.abs() * INSIDE).max(ulp),
        };
        let inside = excluded_bound + sign * step;
        let tighter = bound(object, included).is_none_or(|other| (inside - other) * sign > 0.0);
        object.remove(excluded);
        if tighter {
            object.insert(included.into(), inside.into());
            excluded_by = Some(excluded);
        }
    }
    let (min, max) = (bound(object, "minimum"), bound(object, "maximum"));
    match (excluded_by, min.zip(max)) {
        (Some(keyword), Some((min, max))) if min > max => Err(keyword),
        _ => Ok(()),
    }
}
