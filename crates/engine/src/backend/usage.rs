//! The memory that MLX has allocated.

use super::memory::MemoryUsage;

/// What MLX has allocated; none in a build without MLX.
pub fn memory_usage() -> Option<MemoryUsage> {
    #[cfg(feature = "mlx")]
    return super::mlx::usage();
    #[cfg(not(feature = "mlx"))]
    None
}
