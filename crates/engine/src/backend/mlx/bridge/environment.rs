//! What MLX reads from the environment at its first use.
//!
//! Its CUDA device keeps the graphs that it has built (400; `MLX_CUDA_GRAPH_CACHE_SIZE`) and counts each one that it had to
//! build. At twice as many it throws, now and at every later graph. The count is never reset: the check, which is meant to find
//! a loop that builds graphs without end, also ends a process that runs for months.

use std::env;

const CHECK: &str = "MLX_ENABLE_CACHE_THRASHING_CHECK";

/// Whether MLX will check the number of graphs. Only Linux has MLX's CUDA device.
pub(crate) fn has_graph_limit() -> bool {
    let off = || env::var(CHECK).is_ok_and(|said| said.trim().parse() == Ok(0));
    cfg!(target_os = "linux") && !off()
}

/// Disables the check, unless the environment sets it already, or other threads run, which may read the environment at any
/// time.
#[cfg(target_os = "linux")]
pub(crate) fn disable_graph_limit() {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if env::var_os(CHECK).is_none() && threads == 1 {
        // SAFETY: this thread is the process's only one, so nothing else reads or writes the environment meanwhile.
        unsafe { env::set_var(CHECK, "0") };
    }
}

/// Does nothing: there is no such check.
#[cfg(not(target_os = "linux"))]
pub(crate) fn disable_graph_limit() {}
