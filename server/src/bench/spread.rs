//! Repeated measurements of one figure.

use serde::Serialize;

/// A median and its extremes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Spread {
    /// The middle of the values.
    pub(super) median: f64,
    /// The smallest one.
    pub(super) min: f64,
    /// The largest one.
    pub(super) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            median: values[values.len() / 2],
            min: values[0],
            max: values[values.len() - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_has_the_median_and_the_extremes() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
    }
}
