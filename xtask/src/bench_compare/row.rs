//! A row of docs/performance.jsonl: what one program did with one workload.

use serde::{Deserialize, Serialize};

use super::figure::{median, rounded};
use super::machine::BenchMachine;
use super::workload::Workload;

/// The name of our own rows; all others are peers.
pub(super) const SANCTUM: &str = "Sanctum";

/// What was measured in all rounds.
#[derive(Debug, PartialEq)]
pub(super) struct MeasuredWorkload {
    /// The program's name.
    pub(super) program: &'static str,
    /// Its version.
    pub(super) version: String,
    /// The workload.
    pub(super) work: Workload,
    /// Tokens a second in each round.
    pub(super) rounds: Vec<f64>,
}

/// A line of the file. Rates are tokens a second, of all streams together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BenchRow {
    /// The program's name.
    pub(super) program: String,
    /// Its version, or the commit that it was built from.
    pub(super) version: String,
    /// Where it was measured.
    pub(super) machine: BenchMachine,
    /// The model's shape.
    pub(super) shape: String,
    /// The workload.
    pub(super) work: Workload,
    /// The rate of each round.
    pub(super) rounds: Vec<f64>,
    /// Of the rounds.
    pub(super) median: f64,
    /// Of the rounds.
    pub(super) min: f64,
    /// Of the rounds.
    pub(super) max: f64,
    /// The median as a share of the highest median of a peer; nothing if no peer measured the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ratio_to_best_peer: Option<f64>,
}

impl BenchRow {
    /// Whether both are from one run: the same machine and shape.
    pub(super) fn is_of_same_run(&self, other: &Self) -> bool {
        self.shape == other.shape && self.machine.is_same_as(&other.machine)
    }
}

/// The rows of a run.
pub(super) fn summarize(
    measured: &[MeasuredWorkload],
    machine: &BenchMachine,
    shape: &str,
) -> Vec<BenchRow> {
    let row = |one: &MeasuredWorkload| {
        let rounds: Vec<f64> = one.rounds.iter().copied().map(rounded).collect();
        let middle = median(&one.rounds);
        let best = best_peer(measured, one.work);
        BenchRow {
            program: one.program.to_owned(),
            version: one.version.clone(),
            machine: machine.clone(),
            shape: shape.to_owned(),
            work: one.work,
            median: rounded(middle),
            min: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            max: rounds.iter().copied().fold(0.0, f64::max),
            rounds,
            ratio_to_best_peer: best.map(|best| rounded(middle / best)),
        }
    };
    measured.iter().map(row).collect()
}

/// The highest median of a peer.
fn best_peer(measured: &[MeasuredWorkload], work: Workload) -> Option<f64> {
    measured
        .iter()
        .filter(|one| one.work == work && one.program != SANCTUM)
        .map(|one| median(&one.rounds))
        .max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::super::machine::MachineLimits;
    use super::*;

    fn measured(program: &'static str, work: &str, rounds: [f64; 3]) -> MeasuredWorkload {
        MeasuredWorkload {
            program,
            version: "1".to_owned(),
            work: work.parse().unwrap(),
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn rows_have_median_spread_and_ratio_to_the_best_peer() {
        let measured = [
            measured(SANCTUM, "prefill 128", [167.0, 183.004, 211.0]),
            measured(SANCTUM, "decode 64 x 8", [90.0, 92.0, 94.0]),
            measured("ik_llama.cpp", "prefill 128", [171.0, 183.0, 153.0]),
            measured("llama.cpp", "prefill 128", [103.0, 119.0, 101.0]),
        ];
        let machine = BenchMachine::here(&[MachineLimits::default()]);
        let rows = summarize(&measured, &machine, "qwen3.5-0.8b");
        assert_eq!(rows[0].rounds, [167.0, 183.0, 211.0]);
        assert_eq!(
            (rows[0].median, rows[0].min, rows[0].max),
            (183.0, 167.0, 211.0)
        );
        let ratios: Vec<_> = rows.iter().map(|row| row.ratio_to_best_peer).collect();
        assert_eq!(ratios, [Some(1.07), None, Some(1.0), Some(0.6)]);
        assert!(rows[0].is_of_same_run(&rows[3]));
        let other = BenchRow {
            shape: "qwen3.5-4b".to_owned(),
            ..rows[0].clone()
        };
        assert!(!rows[0].is_of_same_run(&other));
    }
}
