//! The priority of threads that compute, beside that of threads that answer HTTP.

/// Lowers the priority of this thread and of those that it starts. All cores compute all the time, and without this a
/// response of microseconds waits for a time slice of milliseconds (measured on two saturated cores: /health p99 from 4.5 ms
/// to 0.3 ms).
#[cfg(target_os = "linux")]
pub(crate) fn lower() {
    // On Linux niceness belongs to a thread, not to the process.
    if let Err(error) = rustix::process::nice(5) {
        tracing::debug!(%error, "the engine keeps the priority of the other threads");
    }
}

/// Elsewhere niceness belongs to the process, and the schedulers favour threads that mostly wait.
#[cfg(not(target_os = "linux"))]
pub(crate) fn lower() {}
