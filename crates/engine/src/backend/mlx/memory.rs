//! The limits and the memory of MLX's allocator. Both apply to the whole process.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mlx_rs::memory::{
    active_memory, cache_memory, clear_cache, peak_memory, set_cache_limit, set_memory_limit,
    set_wired_limit,
};

use super::{MlxDevice, bridge};
use crate::backend::memory::{MemoryLimits, MemoryUsage, ResolvedLimits};

/// Sets the limits; returns the limits in effect.
pub(super) fn limit(device: MlxDevice, limits: &MemoryLimits) -> ResolvedLimits {
    let limits = limits.resolve(memory_of(device));
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let set = [
        ("memory", set_memory_limit(size(limits.total))),
        ("cache", set_cache_limit(size(limits.cache))),
    ];
    for (what, outcome) in set {
        if let Err(error) = outcome {
            tracing::warn!(what, %error, "MLX rejects the limit");
        }
    }
    // Only if the operator sets it: see `ResolvedLimits::wired`. Only Metal has wired memory, and only since macOS 15.
    if let (MlxDevice::Gpu, Some(wired)) = (device, limits.wired)
        && let Err(error) = set_wired_limit(size(wired))
    {
        tracing::warn!(%error, "MLX rejects the limit on wired memory");
    }
    limits
}

/// Bytes that a GPU should use: Metal's recommendation, or nine tenths of a GPU's own memory.
fn memory_of(device: MlxDevice) -> Option<u64> {
    match device {
        MlxDevice::Cpu => None,
        MlxDevice::Gpu => bridge::gpu_size(c"max_recommended_working_set_size")
            .or_else(|| bridge::gpu_size(c"total_memory").map(|bytes| bytes / 10 * 9)),
    }
}

/// What MLX has allocated; none if it does not report it.
pub(crate) fn usage() -> Option<MemoryUsage> {
    Some(MemoryUsage {
        active: active_memory().ok()? as u64,
        cache: cache_memory().ok()? as u64,
        peak: peak_memory().ok()? as u64,
        drains: DRAINS.load(Ordering::Relaxed),
    })
}

/// Engines of this process that hold sequences.
static BUSY: AtomicUsize = AtomicUsize::new(0);
/// See [`MemoryUsage::drains`].
static DRAINS: AtomicU64 = AtomicU64::new(0);

/// Whether one engine holds sequences. MLX has one cache of freed buffers for the whole process, which is returned to
/// the system only once no engine computes: to allocate it again for each sequence is slow, and public reports tie
/// kernel panics of Macs to such churn beside concurrent streams. Until then the cache limit bounds it.
#[derive(Debug, Default)]
pub(super) struct Busy {
    busy: bool,
}

impl Busy {
    /// The engine computes.
    pub(super) fn begin(&mut self) {
        if !std::mem::replace(&mut self.busy, true) {
            BUSY.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The engine is idle.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.busy) && BUSY.fetch_sub(1, Ordering::AcqRel) == 1 {
            drain();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns freed buffers to the system.
fn drain() {
    DRAINS.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = clear_cache() {
        tracing::warn!(%error, "MLX cannot return its freed buffers to the system");
    }
}
