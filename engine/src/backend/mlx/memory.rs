//! MLX's allocator: its limits and what it holds. Both belong to the whole process.

use mlx_rs::memory::{
    active_memory, cache_memory, clear_cache, peak_memory, set_cache_limit, set_memory_limit,
    set_wired_limit,
};

use super::{MlxDevice, bridge};
use crate::memory::{MemoryLimits, Resolved, Usage};

/// Sets the limits; gives them as they hold.
pub fn limit(device: MlxDevice, limits: &MemoryLimits) -> Resolved {
    let limits = limits.resolve(memory_of(device));
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let set = [
        ("memory", set_memory_limit(size(limits.total))),
        ("cache", set_cache_limit(size(limits.cache))),
    ];
    for (what, outcome) in set {
        if let Err(error) = outcome {
            tracing::warn!(what, %error, "MLX does not take the limit");
        }
    }
    // Only Metal knows wired memory, and only from macOS 15 on: elsewhere there is nothing to limit.
    if let (MlxDevice::Gpu, Err(error)) = (device, set_wired_limit(size(limits.wired))) {
        tracing::debug!(%error, "no limit on wired memory here");
    }
    limits
}

/// What a GPU can use well: what Metal recommends, or nine tenths of a GPU's own memory.
fn memory_of(device: MlxDevice) -> Option<u64> {
    match device {
        MlxDevice::Cpu => None,
        MlxDevice::Gpu => bridge::gpu_size(c"max_recommended_working_set_size")
            .or_else(|| bridge::gpu_size(c"total_memory").map(|bytes| bytes / 10 * 9)),
    }
}

/// What is in use; none if MLX does not say.
pub fn usage() -> Option<Usage> {
    Some(Usage {
        active: active_memory().ok()? as u64,
        cache: cache_memory().ok()? as u64,
        peak: peak_memory().ok()? as u64,
    })
}

/// Gives freed buffers back to the system.
pub fn drain() {
    if let Err(error) = clear_cache() {
        tracing::warn!(%error, "MLX keeps its freed buffers");
    }
}
