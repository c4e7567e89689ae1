//! Freezes an engine on purpose, so that tests can check how watchdogs react. Debug builds only: in a release build these
//! points do nothing.

#[cfg(debug_assertions)]
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

/// A point at which a thread can be frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The engine's thread, after a layer: `SANCTUM_FREEZE_ENGINE`.
    Layer,
    /// A model's load, after each piece of it: `SANCTUM_FREEZE_LOAD`.
    Load,
    /// The thread that reads prefixes from disk, before each file: `SANCTUM_FREEZE_READ`.
    Read,
}

/// Waits for as long as the file exists that the point's environment variable names.
pub(crate) fn pass(point: Point) {
    #[cfg(debug_assertions)]
    {
        static LAYER: OnceLock<Option<PathBuf>> = OnceLock::new();
        static LOAD: OnceLock<Option<PathBuf>> = OnceLock::new();
        static READ: OnceLock<Option<PathBuf>> = OnceLock::new();
        let (known, variable) = match point {
            Point::Layer => (&LAYER, "SANCTUM_FREEZE_ENGINE"),
            Point::Load => (&LOAD, "SANCTUM_FREEZE_LOAD"),
            Point::Read => (&READ, "SANCTUM_FREEZE_READ"),
        };
        let path = known.get_or_init(|| std::env::var_os(variable).map(PathBuf::from));
        if let Some(path) = path {
            wait_while(path);
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = point;
}

#[cfg(debug_assertions)]
fn wait_while(path: &Path) {
    while path.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn thread_is_frozen_while_the_file_exists() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frozen");
        wait_while(&path);
        std::fs::write(&path, "").unwrap();
        let frozen = std::thread::spawn({
            let path = path.clone();
            move || wait_while(&path)
        });
        std::thread::sleep(Duration::from_millis(60));
        assert!(!frozen.is_finished());
        std::fs::remove_file(&path).unwrap();
        frozen.join().unwrap();
    }
}
