//! Downsampling: a span of a server's history in cells of equal length, as the page draws it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bucket::{BUCKET_SECONDS, Bucket};
use crate::fleet_page::availability::Availability;

/// How far back a strip reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// 24 hours, in 144 cells of ten minutes.
    Day,
    /// 7 days, in 168 cells of an hour.
    Week,
}

impl Span {
    fn cell_seconds(self) -> i64 {
        match self {
            Self::Day => 600,
            Self::Week => 3_600,
        }
    }

    fn cells(self) -> i64 {
        match self {
            Self::Day => 144,
            Self::Week => 168,
        }
    }
}

/// A span of a server's history; the last cell is the one that has begun and has not ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Strip {
    /// When the first cell begins, in seconds since 1970.
    pub(crate) begin: i64,
    /// The length of a cell.
    pub(crate) cell_seconds: i64,
    /// One letter for each cell, the worst that was observed in it: `u` up, `g` degraded, `d` down, `-` unknown.
    pub(crate) states: String,
    /// The share of observations in which the server was up or degraded, 0 to 1; none without any.
    pub(crate) availability: Option<f64>,
    /// The share of the span in which it was observed, 0 to 1.
    pub(crate) observed: f64,
    /// The average of generated tokens a second in each cell; none if it is unknown.
    pub(crate) tokens_per_second: Vec<Option<f64>>,
    /// The largest number of requests that waited, in each cell.
    pub(crate) queued: Vec<u64>,
}

impl Strip {
    /// From buckets by their number since 1970; it ends at `now`, in seconds since 1970.
    pub(super) fn of(buckets: &BTreeMap<i64, Bucket>, span: Span, now: i64) -> Self {
        let cell_seconds = span.cell_seconds();
        let per_cell = cell_seconds / BUCKET_SECONDS;
        let first = now.div_euclid(cell_seconds) - span.cells() + 1;
        let mut strip = Self {
            begin: first * cell_seconds,
            cell_seconds,
            states: String::new(),
            availability: None,
            observed: 0.0,
            tokens_per_second: Vec::new(),
            queued: Vec::new(),
        };
        let mut whole = Bucket::default();
        for cell in first..first + span.cells() {
            let mut sum = Bucket::default();
            let parts = buckets.range(cell * per_cell..(cell + 1) * per_cell);
            parts.for_each(|(_, bucket)| sum.add(bucket));
            strip.states.push(match sum.worst() {
                Some(Availability::Up) => 'u',
                Some(Availability::Degraded) => 'g',
                Some(Availability::Down) => 'd',
                None => '-',
            });
            strip.tokens_per_second.push(sum.rate().map(tenths));
            strip.queued.push(sum.queued);
            whole.add(&sum);
        }
        if whole.samples() > 0 {
            let available = whole.samples() - u64::from(whole.down);
            strip.availability = Some(available as f64 / whole.samples() as f64);
        }
        let begin = first * per_cell;
        let past = now.div_euclid(BUCKET_SECONDS) + 1 - begin;
        let known = buckets
            .range(begin..begin + past)
            .filter(|(_, bucket)| bucket.samples() > 0);
        strip.observed = known.count() as f64 / past as f64;
        strip
    }
}

/// Rounded to a tenth: JSON needs no more digits.
fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the second bucket of a cell of ten minutes, and in the third such cell of an hour.
    const NOW: i64 = 1_776_500_000 / 3_600 * 3_600 + 1_500;

    fn bucket(up: u32, degraded: u32, down: u32) -> Bucket {
        Bucket {
            up,
            degraded,
            down,
            ..Bucket::default()
        }
    }

    #[test]
    fn cell_shows_the_worst_of_its_buckets() {
        let last = NOW / BUCKET_SECONDS;
        let buckets = BTreeMap::from([
            (last, bucket(9, 1, 0)),
            (last - 1, bucket(10, 0, 0)),
            (last - 2, bucket(9, 0, 1)),
            (last - 12, bucket(10, 0, 0)),
        ]);
        let day = Strip::of(&buckets, Span::Day, NOW);
        assert_eq!(day.begin, NOW - 300 - 143 * 600);
        assert_eq!(day.states.len(), 144);
        assert!(day.states.ends_with("-u----dg"), "{}", day.states);
        assert_eq!(day.availability, Some(39.0 / 40.0));
        let week = Strip::of(&buckets, Span::Week, NOW);
        assert_eq!((week.states.len(), week.cell_seconds), (168, 3_600));
        assert!(week.states.ends_with("-ud"), "{}", week.states);
        assert_eq!(week.availability, day.availability);
    }

    #[test]
    fn strip_without_observations_is_unknown_and_has_no_availability() {
        let strip = Strip::of(&BTreeMap::new(), Span::Day, NOW);
        assert_eq!(strip.states, "-".repeat(144));
        assert_eq!((strip.availability, strip.observed), (None, 0.0));
        assert_eq!(strip.tokens_per_second, vec![None; 144]);
    }

    #[test]
    fn rates_are_averaged_over_samples_and_queues_are_the_longest() {
        let last = NOW / BUCKET_SECONDS;
        let rates = |rates, rate_sum, queued| Bucket {
            rates,
            rate_sum,
            queued,
            up: 1,
            ..Bucket::default()
        };
        let buckets = BTreeMap::from([(last, rates(1, 400, 2)), (last - 2, rates(3, 0, 7))]);
        let strip = Strip::of(&buckets, Span::Day, NOW);
        let shown: Vec<f64> = strip.tokens_per_second.iter().flatten().copied().collect();
        assert_eq!(shown, [0.0, 40.0]);
        assert_eq!(strip.queued[142..], [7, 2]);
        let week = Strip::of(&buckets, Span::Week, NOW);
        assert_eq!(week.tokens_per_second[167], Some(10.0));
        assert_eq!(week.queued[167], 7);
    }

    #[test]
    fn whole_span_that_was_observed_is_observed_whole() {
        let last = NOW / BUCKET_SECONDS;
        let buckets: BTreeMap<i64, Bucket> = (last - 3_000..=last)
            .map(|number| (number, bucket(1, 0, 0)))
            .collect();
        for span in [Span::Day, Span::Week] {
            let strip = Strip::of(&buckets, span, NOW);
            assert_eq!((strip.observed, strip.availability), (1.0, Some(1.0)));
            assert!(!strip.states.contains('-'));
        }
    }

    proptest::proptest! {
        #[test]
        fn every_sample_of_the_span_is_in_one_cell(numbers in proptest::collection::vec(0..2_200_i64, 0..50)) {
            let last = NOW / BUCKET_SECONDS;
            let mut buckets: BTreeMap<i64, Bucket> = BTreeMap::new();
            for number in &numbers {
                buckets.entry(last - number).or_default().add(&bucket(1, 0, 0));
            }
            for (span, seconds) in [(Span::Day, 86_400), (Span::Week, 7 * 86_400)] {
                let strip = Strip::of(&buckets, span, NOW);
                let begin = strip.begin / BUCKET_SECONDS;
                let inside = buckets.keys().filter(|number| **number >= begin);
                let cells: std::collections::BTreeSet<i64> =
                    inside.map(|number| (number - begin) / (strip.cell_seconds / BUCKET_SECONDS)).collect();
                let shown = strip.states.chars().filter(|state| *state == 'u').count();
                proptest::prop_assert_eq!(shown, cells.len());
                proptest::prop_assert!((strip.begin..strip.begin + seconds).contains(&NOW));
            }
        }
    }
}
