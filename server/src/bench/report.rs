//! What `sanctum-server bench` prints: as JSON, or as a table.

use std::fmt::Write as _;

use serde::Serialize;

use super::constrained::ConstrainedRun;
use super::spread::Spread;

/// All measurements.
#[derive(Debug, Serialize)]
pub(super) struct BenchReport {
    pub(super) model: String,
    pub(super) precision: &'static str,
    pub(super) kv_cache: String,
    /// The backend: the instruction set of the inner loops, or MLX and its device.
    pub(super) device: String,
    pub(super) threads: usize,
    /// The bandwidth of a plain read loop on these threads; MLX's devices are not measured.
    pub(super) read_bandwidth_gb_s: Option<f64>,
    pub(super) runs: Vec<BenchRun>,
    /// With a schema.
    pub(super) constrained: Vec<ConstrainedRun>,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(super) struct BenchRun {
    /// `prefill 128`, `decode 64 x 4`, `decode 64 x 4 @ 1024`; `cargo xtask bench-compare` parses it.
    pub(super) name: String,
    /// All streams together.
    pub(super) tokens_per_s: Spread,
    /// Bytes of weights and recurrent state that are read for each token.
    pub(super) bytes_per_token: f64,
    /// The share of the read bandwidth that they take.
    pub(super) bandwidth_share: Option<f64>,
}

impl BenchReport {
    /// The report as text for people.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{}, {}, {} KV cache, {} on {} threads{}\n",
            self.model,
            self.precision,
            self.kv_cache,
            self.device,
            self.threads,
            self.read_bandwidth_gb_s
                .map(|rate| format!(", memory reads at {rate:.1} GB/s"))
                .unwrap_or_default(),
        );
        if !self.constrained.is_empty() {
            let _ = writeln!(
                text,
                "\n{:<22} {:>10} {:>19} {:>10} {:>19} {:>10}",
                "", "free", "(min - max)", "schema", "(min - max)", "ratio"
            );
        }
        for run in &self.constrained {
            let range = |spread: Spread| format!("({:.1} - {:.1})", spread.min, spread.max);
            let _ = writeln!(
                text,
                "{:<22} {:>10.1} {:>19} {:>10.1} {:>19} {:>10.3}",
                run.name,
                run.free.median,
                range(run.free),
                run.constrained.median,
                range(run.constrained),
                run.ratio,
            );
        }
        if !self.runs.is_empty() {
            let _ = writeln!(
                text,
                "\n{:<22} {:>10} {:>19} {:>12} {:>10}",
                "", "tok/s", "(min - max)", "MB/token", "bandwidth"
            );
        }
        for run in &self.runs {
            let Spread { median, min, max } = run.tokens_per_s;
            let _ = writeln!(
                text,
                "{:<22} {median:>10.1} {:>19} {:>12.1} {:>10}",
                run.name,
                format!("({min:.1} - {max:.1})"),
                run.bytes_per_token / 1e6,
                run.bandwidth_share
                    .map(|share| format!("{:.0}%", share * 100.0))
                    .unwrap_or_default(),
            );
        }
        text
    }
}
