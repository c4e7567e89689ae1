//! Measurements of a benchmark beside their limits.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

/// The measurements, in the order of the table.
#[derive(Debug, Default)]
pub struct Report(Vec<Measurement>);

#[derive(Debug)]
struct Measurement {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Option<Limit>,
}

/// The limit of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Less than this.
    Below(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Report {
    /// Adds a value.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str, limit: Option<Limit>) {
        self.0.push(Measurement {
            name: name.to_owned(),
            value,
            unit,
            limit,
        });
    }

    /// Prints the table, or JSON; the exit code is a failure if a limit was missed.
    pub fn print(&self, as_json: bool) -> ExitCode {
        match as_json {
            true => println!("{}", self.json()),
            false => print!("{}", self.table()),
        }
        match self.missed() {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    /// How many limits were missed.
    pub fn missed(&self) -> usize {
        self.0
            .iter()
            .filter(|measurement| !measurement.holds())
            .count()
    }

    /// The report as a table.
    pub fn table(&self) -> String {
        let width = self
            .0
            .iter()
            .map(|measurement| measurement.name.len())
            .max();
        let width = width.unwrap_or_default();
        let mut table = String::new();
        for measurement in &self.0 {
            let Measurement {
                name, value, unit, ..
            } = measurement;
            let limit = measurement.limit.map(Limit::text).unwrap_or_default();
            let verdict = match (measurement.limit, measurement.holds()) {
                (None, _) => "",
                (_, true) => "ok",
                (_, false) => "MISSED",
            };
            let line = format!("{name:width$}  {value:>10.2} {unit:<6} {limit:<8} {verdict}");
            let _ = writeln!(table, "{}", line.trim_end());
        }
        table
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let measurement = |measurement: &Measurement| {
            json!({
                "name": measurement.name,
                "value": measurement.value,
                "unit": measurement.unit,
                "limit": measurement.limit.map(Limit::text),
                "ok": measurement.holds(),
            })
        };
        self.0.iter().map(measurement).collect()
    }
}

impl Measurement {
    fn holds(&self) -> bool {
        self.limit.is_none_or(|limit| limit.holds(self.value))
    }
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Below(limit) => value < limit,
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Below(limit) => format!("< {limit}"),
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::AtLeast(limit) => format!("≥ {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_limit_is_counted_and_shown() {
        let mut report = Report::default();
        report.add("pause", 2.0, "chunks", Some(Limit::AtMost(2.0)));
        report.add("p99", 5.0, "ms", Some(Limit::Below(5.0)));
        report.add("ratio", 0.6, "", Some(Limit::AtLeast(0.7)));
        report.add("rate", 0.0, "tok/s", None);
        assert_eq!(report.missed(), 2);
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].ends_with("≤ 2      ok"), "{}", lines[0]);
        assert!(lines[1].ends_with("< 5      MISSED"), "{}", lines[1]);
        assert_eq!(report.json()[2]["ok"], false);
        assert_eq!(report.json()[3]["limit"], Value::Null);
    }
}
