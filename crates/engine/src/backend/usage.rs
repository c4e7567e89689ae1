//! The memory that MLX has allocated.

use super::memory::Usage;

/// What MLX has allocated; none in a build without MLX.
pub fn memory_usage() -> Option<Usage> {
    #[cfg(feature = "mlx")]
    return super::mlx::usage();
    #[cfg(not(feature = "mlx"))]
    None
}
