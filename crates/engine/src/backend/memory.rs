//! Limits on the memory that models and their sequences share, their defaults, and what is in use.

use std::num::NonZeroUsize;

use crate::backend::machine;

/// One MiB.
const MIB: u64 = 1 << 20;

/// Limits on memory, in bytes; those that are not set are derived from the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Freed buffers that MLX keeps for reuse.
    pub cache: Option<u64>,
    /// All that weights, sequences and their computation may take.
    pub total: Option<u64>,
    /// What Metal may keep resident; `None` leaves wired memory to the system.
    pub wired: Option<u64>,
}

/// The limits in effect, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedLimits {
    /// Freed buffers that MLX keeps for reuse.
    pub cache: u64,
    /// All of it.
    pub total: u64,
    /// What Metal may keep resident; `None` unless the operator sets it. Public reports tie kernel panics of Macs to
    /// wired limits, so there is no default.
    pub wired: Option<u64>,
}

/// What MLX has allocated, in bytes, for all models of this process together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUsage {
    /// In arrays that are in use.
    pub active: u64,
    /// Freed, and kept for reuse.
    pub cache: u64,
    /// The most that was active at once.
    pub peak: u64,
    /// How often the freed buffers were returned to the system.
    pub drains: u64,
}

impl MemoryLimits {
    /// The limits in effect. `device` is what the device recommends, in bytes, if it has a recommendation.
    ///
    /// The default for the total is three quarters of the machine's memory, which leaves room for the rest of the system, or
    /// `device` on a device with memory of its own. The default for freed buffers is an eighth of the total, at most 1 GiB.
    pub fn resolve(&self, device: Option<u64>) -> ResolvedLimits {
        let most = device
            .or_else(|| machine::memory().map(|bytes| bytes / 4 * 3))
            .unwrap_or(4096 * MIB);
        let total = self.total.unwrap_or(most).max(MIB);
        ResolvedLimits {
            total,
            cache: self.cache.unwrap_or((total / 8).min(1024 * MIB)),
            wired: self.wired,
        }
    }
}

impl ResolvedLimits {
    /// One of `models` even shares.
    pub fn shared(self, models: NonZeroUsize) -> Self {
        let models = models.get() as u64;
        Self {
            cache: self.cache / models,
            total: self.total / models,
            wired: self.wired,
        }
    }

    /// Memory for neither weights nor sequences: the cache, and room to compute in.
    pub fn reserve(&self) -> u64 {
        self.cache + (self.total / 8).min(1024 * MIB)
    }

    /// What sequences get beside weights that are mapped. These may be larger than memory, which is slow: sequences get a
    /// sixteenth in any case.
    pub fn beside_mapped(&self, weights: u64) -> u64 {
        self.total.saturating_sub(weights).max(self.total / 16)
    }

    /// What is left for sequences where weights take `weights` bytes.
    pub fn for_sequences(&self, weights: u64) -> Option<u64> {
        self.total.checked_sub(weights)?.checked_sub(self.reserve())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_limits_are_finite() {
        let all = MemoryLimits::default().resolve(None);
        assert!(all.total > 0 && all.cache > 0 && all.cache <= all.total);
        let device = MemoryLimits::default().resolve(Some(16 << 30));
        assert_eq!((device.total, device.cache), (16 << 30, 1 << 30));
    }

    #[test]
    fn wired_limit_is_none_unless_the_operator_sets_it() {
        for device in [None, Some(16 << 30)] {
            assert_eq!(MemoryLimits::default().resolve(device).wired, None);
        }
        let set = MemoryLimits {
            wired: Some(24 << 30),
            ..MemoryLimits::default()
        };
        // It limits the whole process, so models do not divide it.
        let shared = set.resolve(Some(16 << 30)).shared(NonZeroUsize::MAX);
        assert_eq!(shared.wired, Some(24 << 30));
    }

    #[test]
    fn sequences_get_memory_that_weights_leave() {
        let limits = MemoryLimits {
            total: Some(10 << 30),
            ..MemoryLimits::default()
        };
        let limits = limits.resolve(Some(100 << 30));
        assert_eq!(limits.for_sequences(3 << 30), Some(5 << 30));
        assert_eq!(limits.for_sequences(9 << 30), None);
        assert_eq!(limits.beside_mapped(3 << 30), 7 << 30);
        assert_eq!(limits.beside_mapped(20 << 30), (10 << 30) / 16);
    }
}
