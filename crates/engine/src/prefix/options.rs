//! How much is kept for reuse, and where.

use std::path::PathBuf;
use std::time::Duration;

/// How prefixes are reused.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixOptions {
    /// Whether they are at all.
    pub enabled: bool,
    /// Bytes of memory that may be kept for reuse; none: half of the memory for sequences. Running sequences go first.
    pub limit: Option<u64>,
    /// Tokens of a long message after which a snapshot is taken; none: as many as take the memory of a snapshot's recurrent
    /// states, at least 512.
    pub spacing: Option<usize>,
    /// The fewest tokens for which a snapshot is taken.
    pub least: usize,
    /// What is kept on disk, if anything is.
    pub cold: Option<ColdOptions>,
    /// The share of reuses that are checked: the prefix is computed again when the engine is idle, and compared. From 0 to 1.
    pub check_share: f64,
    /// Identifies all that a snapshot depends on: weights, adapter, backend, precision, KV mode, version.
    pub fingerprint: [u8; 32],
}

/// What is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdOptions {
    /// The folder, for this process alone.
    pub folder: PathBuf,
    /// Bytes that its files may take together.
    pub limit_bytes: u64,
    /// How long a prefix waits before it is written: in a conversation that continues, the next turn replaces it.
    pub settle: Duration,
    /// How long nothing is written after a file could not be, before that is tried again.
    pub retry: Duration,
    /// Whether prefixes that are estimated to be computed faster than read are left out. Without it all are written and read.
    pub estimate: bool,
}

impl ColdOptions {
    /// This folder, with at most `limit_bytes` in it.
    pub fn new(folder: PathBuf, limit_bytes: u64) -> Self {
        Self {
            folder,
            limit_bytes,
            settle: Duration::from_secs(10),
            retry: Duration::from_secs(5),
            estimate: true,
        }
    }
}

impl PrefixOptions {
    /// Nothing is reused.
    pub fn off() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}

impl Default for PrefixOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            limit: None,
            spacing: None,
            least: 16,
            cold: None,
            check_share: 0.0,
            fingerprint: [0; 32],
        }
    }
}
