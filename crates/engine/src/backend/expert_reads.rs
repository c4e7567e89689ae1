//! How many experts passes read: what a mixture costs depends on it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Experts that were read since the backend was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertReads {
    /// Layers that were computed, those of all passes together.
    pub layers: u64,
    /// Experts whose weights these layers read.
    pub experts: u64,
}

impl ExpertReads {
    /// Experts that a layer read, on average since `before`.
    pub fn mean_since(&self, before: &Self) -> f64 {
        (self.experts - before.experts) as f64 / (self.layers - before.layers).max(1) as f64
    }

    /// Experts that a layer reads for so many rows, if all of its `experts` are chosen alike. Trained routers prefer some, and
    /// then it is fewer.
    pub fn of_even_choice(experts: usize, per_token: usize, rows: usize) -> f64 {
        let missed = 1.0 - per_token as f64 / experts as f64;
        experts as f64 * (1.0 - missed.powf(rows as f64))
    }
}

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct ExpertReadCounter {
    layers: AtomicU64,
    experts: AtomicU64,
}

impl ExpertReadCounter {
    /// Counts a layer that read so many experts.
    pub(super) fn count(&self, experts: usize) {
        self.layers.fetch_add(1, Relaxed);
        self.experts.fetch_add(experts as u64, Relaxed);
    }

    pub(super) fn reads(&self) -> ExpertReads {
        ExpertReads {
            layers: self.layers.load(Relaxed),
            experts: self.experts.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_layers_since_then() {
        let counter = ExpertReadCounter::default();
        counter.count(100);
        let before = counter.reads();
        assert_eq!(before.mean_since(&before), 0.0);
        counter.count(8);
        counter.count(16);
        assert_eq!(counter.reads().mean_since(&before), 12.0);
    }

    #[test]
    fn even_choice_reads_what_the_formula_says() {
        for (rows, experts) in [(1, 8.0), (2, 15.75), (32, 163.3)] {
            let reads = ExpertReads::of_even_choice(256, 8, rows);
            assert!((reads - experts).abs() < 0.1, "{rows}: {reads}");
        }
    }
}
