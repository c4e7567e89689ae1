//! The production model's own text files, which lie beside the repository where the project is developed.

use std::path::Path;

/// Where they are, if not in `shared/data/qwen3.5` of a folder around the repository.
const FOLDER: &str = "SANCTUM_QWEN_DATA";

/// The content of one of them. Without them the tests that need them are skipped, except with `SANCTUM_TESTS_WHOLE=1`.
///
/// # Panics
/// With `SANCTUM_TESTS_WHOLE=1`, which `.ci/run` sets, if the file is missing: a test that cannot run has not passed.
pub(crate) fn file(name: &str) -> Option<Vec<u8>> {
    let around = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let beside = around.map(|folder| folder.join("shared/data/qwen3.5"));
    let named = std::env::var_os(FOLDER).map(Into::into);
    let found = named
        .into_iter()
        .chain(beside)
        .find_map(|folder| std::fs::read(folder.join(name)).ok());
    let missing = "Qwen3.5's {name} is missing; name its folder in SANCTUM_QWEN_DATA";
    if found.is_none() {
        let missing = missing.replace("{name}", name);
        let whole = std::env::var_os("SANCTUM_TESTS_WHOLE").is_some_and(|value| value == "1");
        assert!(!whole, "{missing}");
        eprintln!("skipped: {missing}");
    }
    found
}
