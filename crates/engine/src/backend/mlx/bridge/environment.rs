//! What MLX reads from the environment at its first use.
//!
//! Its CUDA device keeps the graphs that it has built (400; `MLX_CUDA_GRAPH_CACHE_SIZE`) and counts each one that it had to
//! build. At twice as many it throws, and goes on throwing. The count is never reset, so that what is meant to find a loop that
//! builds graphs without end is a fuse in a process that lives for months.

use std::env;

const CHECK: &str = "MLX_ENABLE_CACHE_THRASHING_CHECK";

/// Whether the fuse is still there. Only Linux has MLX's CUDA device.
pub fn has_fuse() -> bool {
    let off = || env::var(CHECK).is_ok_and(|said| said.trim().parse() == Ok(0));
    cfg!(target_os = "linux") && !off()
}

/// Takes the fuse out, unless the environment says something about it already, or other threads run, which may read the
/// environment at any time.
#[cfg(target_os = "linux")]
pub fn without_fuse() {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if env::var_os(CHECK).is_none() && threads == 1 {
        // SAFETY: this thread is the process's only one, so nobody reads or writes the environment meanwhile.
        unsafe { env::set_var(CHECK, "0") };
    }
}

/// There is none.
#[cfg(not(target_os = "linux"))]
pub fn without_fuse() {}
