//! Whether prefixes are being reused and written to disk, as the engine's handles see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cold::{ColdError, ColdStatus};

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
    /// The same without any path, for readers who may not be authorized to see one.
    pub public_problem: Option<String>,
    /// Operations on files that the system refused since the start, those of all models of the folder.
    pub errors: u64,
}

/// The state that the engine's thread sets and its handles read.
#[derive(Debug, Default)]
pub(crate) struct PrefixStatus {
    state: Mutex<PrefixState>,
    disk: Mutex<Option<Arc<ColdStatus>>>,
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
        let disk = self.reported();
        let disk = disk.as_ref().map(|disk| PrefixDisk {
            problem: disk.problem(),
            public_problem: disk.public_problem(),
            errors: disk.errors(),
        });
        disk.unwrap_or_default()
    }

    /// Reports this disk from now on.
    pub(crate) fn set_disk(&self, disk: Arc<ColdStatus>) {
        *self.reported() = Some(disk);
    }

    /// Reports a disk that is not used until a restart.
    pub(crate) fn set_unusable(&self, error: &ColdError) {
        let errors = self.disk().errors;
        self.set_disk(Arc::new(ColdStatus::unusable(error, errors)));
    }

    fn reported(&self) -> MutexGuard<'_, Option<Arc<ColdStatus>>> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_that_fails_later_is_reported_with_the_errors_before() {
        let status = PrefixStatus::default();
        assert_eq!(status.disk(), PrefixDisk::default());
        let used = ColdError::InUse {
            folder: "/cache".into(),
            process: Some(7),
        };
        status.set_disk(Arc::new(ColdStatus::unusable(&used, 3)));
        assert_eq!(status.disk().problem, Some(used.to_string()));
        status.set_unusable(&ColdError::WriterEnded {
            folder: "/cache".into(),
        });
        let disk = status.disk();
        assert!(disk.problem.unwrap().contains("/cache"));
        let public = disk.public_problem.unwrap();
        assert!(!public.contains("/cache") && public.contains("restart the server"));
        assert_eq!(disk.errors, 3);
    }
}
