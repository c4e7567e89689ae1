//! Whether prefixes are being reused and written to disk, as the engine's handles see it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::cold::ColdStatus;

/// Whether prefixes are being reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PrefixState {
    /// They are.
    On,
    /// They are not: it is turned off, or the backend cannot.
    #[default]
    Off,
    /// They are no longer, until the engine is started again: a reused prefix was not equal to the computed one.
    DisabledByCheck {
        /// What was not equal: positions, and the scope.
        reason: String,
    },
}

/// How the disk fares that prefixes are kept on. Without one there are no problems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixDisk {
    /// Why no prefix is written at present, and the fix.
    pub problem: Option<String>,
    /// Operations on files that the system refused since the start, those of all models of the folder.
    pub errors: u64,
}

/// The state that the engine's thread sets and its handles read.
#[derive(Debug, Default)]
pub(crate) struct PrefixStatus {
    state: Mutex<PrefixState>,
    disk: OnceLock<Arc<ColdStatus>>,
}

impl PrefixStatus {
    pub(crate) fn get(&self) -> PrefixState {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, state: PrefixState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(crate) fn disk(&self) -> PrefixDisk {
        let disk = self.disk.get().map(|disk| PrefixDisk {
            problem: disk.problem(),
            errors: disk.errors(),
        });
        disk.unwrap_or_default()
    }

    /// Reports this disk from now on.
    pub(crate) fn set_disk(&self, disk: Arc<ColdStatus>) {
        // An engine has one folder.
        let _ = self.disk.set(disk);
    }
}
