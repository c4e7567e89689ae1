//! What the server reports of itself while agents work.

use std::sync::Arc;
use std::time::Duration;

use sanctum_tests::{Limit, Metrics, Report, Server};

/// Between two samples.
pub(crate) const EVERY: Duration = Duration::from_millis(500);

/// Samples `/metrics` and the size of the process.
pub(crate) struct Observer {
    server: Arc<Server>,
    /// The most that computed prefixes took, and prefixes and sequences together, in bytes, beside the memory for both.
    prefixes: f64,
    together: f64,
    limit: f64,
    disk: f64,
    /// Resident bytes after the first half of the samples, and the most after that: growth shows in the second half.
    resident: Vec<f64>,
}

impl Observer {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            prefixes: 0.0,
            together: 0.0,
            limit: 0.0,
            disk: 0.0,
            resident: Vec::new(),
        }
    }

    /// Takes a sample.
    pub(crate) async fn sample(&mut self) {
        let metrics = self.server.metrics().await;
        let bytes = |tier| metrics.sum("sanctum_prefix_cache_bytes", &[("tier", tier)]);
        let reserved = metrics.sum("sanctum_sequence_memory_reserved_bytes", &[]);
        self.prefixes = self.prefixes.max(bytes("memory"));
        self.together = self.together.max(bytes("memory") + reserved);
        self.disk = self.disk.max(bytes("disk"));
        self.limit = metrics.sum("sanctum_sequence_memory_limit_bytes", &[]);
        self.resident.extend(resident(self.server.id()));
    }

    /// Waits until the server has nothing to do.
    pub(crate) async fn idle(&self) {
        let is_idle =
            |health: &serde_json::Value| health["in_flight"] == 0 && health["queued"] == 0;
        self.server.health_shows("an idle server", is_idle).await;
    }

    /// Adds what was seen to the report.
    pub(crate) async fn report(&self, report: &mut Report) {
        let metrics = self.server.metrics().await;
        let total = |name: &str| metrics.sum(&format!("sanctum_prefix_cache_{name}"), &[]);
        for (name, metric) in [
            ("evictions", "evictions_total"),
            ("waits for a shared prefix", "waits_total"),
            ("snapshots read from disk", "restores_total"),
            ("checks by the server", "checks_total"),
        ] {
            report.add(name, total(metric), "", None);
        }
        let none = Some(Limit::AtMost(0.0));
        report.add("differences", total("differences_total"), "", none);
        report.add("prefixes at most", mib(self.prefixes), "MiB", None);
        let limit = Some(Limit::AtMost(mib(self.limit)));
        report.add("with sequences", mib(self.together), "MiB", limit);
        report.add("on disk at most", mib(self.disk), "MiB", None);
        let middle = self.resident.len() / 2;
        let most = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
        let (first, second) = self.resident.split_at(middle);
        if !first.is_empty() {
            report.add("resident at most", mib(most(&self.resident)), "MiB", None);
            let grown = most(second) - most(first);
            report.add("grown in the second half", mib(grown), "MiB", None);
        }
        report.add("outcome: failed", failed(&metrics), "", none);
    }
}

fn failed(metrics: &Metrics) -> f64 {
    metrics.sum("sanctum_generations_total", &[("outcome", "failed")])
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The resident bytes of a process, where the system says it in /proc.
fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024.0)
}
