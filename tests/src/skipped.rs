//! Skips tests that cannot run on this machine.

/// Returns none, with which the test returns early, and prints what is missing. With `SANCTUM_TESTS_WHOLE=1`, which
/// `.ci/run` sets, the test fails instead.
///
/// # Panics
/// With `SANCTUM_TESTS_WHOLE=1`.
pub fn skipped<T>(missing: &str) -> Option<T> {
    let whole = std::env::var_os("SANCTUM_TESTS_WHOLE").is_some_and(|value| value == "1");
    assert!(!whole, "this test needs {missing}");
    eprintln!("skipped: this test needs {missing}");
    None
}
