//! A page of metrics in Prometheus' text format, parsed strictly.

use std::collections::BTreeMap;

/// The samples of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Parses a page.
    ///
    /// # Errors
    /// The first line that is neither a comment nor a sample.
    pub fn parse(page: &str) -> Result<Self, String> {
        let samples = page
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).ok_or_else(|| line.to_owned()))
            .collect::<Result<_, _>>()?;
        Ok(Self { samples })
    }

    /// The sum of all samples of this name that have these labels; zero where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample, (label, value): &(&str, &str)| {
            sample.labels.get(*label).is_some_and(|is| is == value)
        };
        self.samples
            .iter()
            .filter(|sample| sample.name == name)
            .filter(|sample| labels.iter().all(|label| has(sample, label)))
            .map(|sample| sample.value)
            .sum()
    }

    /// Every name that has a sample.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(|sample| sample.name.as_str())
    }
}

/// `name{label="value",…} value`
fn sample(line: &str) -> Option<Sample> {
    let (name, value) = line.rsplit_once(' ')?;
    let (name, labels) = match name.split_once('{') {
        None => (name, BTreeMap::new()),
        Some((name, labels)) => (name, pairs(labels.strip_suffix('}')?)?),
    };
    let of_names = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    (!name.is_empty() && name.chars().all(of_names)).then_some(())?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// `a="1",b="2"`; no value has a quote or a comma in it.
fn pairs(labels: &str) -> Option<BTreeMap<String, String>> {
    let pair = |pair: &str| {
        let (label, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((label.to_owned(), value.to_owned()))
    };
    labels.split(',').map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_adds_samples_over_labels_that_are_not_named() {
        let page = "# TYPE asked counter\nasked{route=\"/a\",status=\"200\"} 3\nasked{route=\"/b\",status=\"200\"} 4\n\
                    asked{route=\"/a\",status=\"404\"} 1\n\nup 0.5\n";
        let metrics = Metrics::parse(page).unwrap();
        assert_eq!(metrics.sum("asked", &[]), 8.0);
        assert_eq!(metrics.sum("asked", &[("status", "200")]), 7.0);
        assert_eq!(
            metrics.sum("asked", &[("status", "200"), ("route", "/a")]),
            3.0
        );
        assert_eq!(metrics.sum("up", &[]), 0.5);
        assert_eq!(metrics.sum("down", &[]), 0.0);
    }

    #[test]
    fn invalid_line_is_returned_as_error() {
        for line in ["asked", "asked{route=/a} 1", "as-ked 1", "asked many"] {
            assert_eq!(Metrics::parse(line), Err(line.to_owned()));
        }
    }
}
