//! Fault points: where tests interrupt a deployment.

/// The boundary after a step. In debug builds the process aborts here if `SANCTUM_FAULT` names the step, as `kill -9` would
/// end it. docs/development.md lists the steps.
pub(crate) fn fault_point(step: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os("SANCTUM_FAULT").is_some_and(|fault| fault == step) {
        eprintln!("SANCTUM_FAULT: aborting after `{step}`");
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = step;
}
