//! Figures of a model's engines, of which there are two while one replaces the other.

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sanctum_engine::schedule::{Admission, Engine, EngineStats, Heartbeat, Pulse};

/// The figures of one engine. It does not keep the engine alive.
#[derive(Clone)]
pub(crate) struct EngineFigures {
    heartbeat: Arc<Heartbeat>,
    stats: Arc<EngineStats>,
    memory: Arc<Admission>,
    slots: usize,
}

/// What a model's engines have now, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Sequences that can be generated at once.
    pub slots: usize,
    /// Bytes that sequences may take.
    pub limit: u64,
    /// Bytes that running ones have reserved.
    pub reserved: u64,
    /// Computed prefixes that are kept.
    pub prefixes: KeptPrefixes,
}

/// Computed prefixes that are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptPrefixes {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes on disk, of all models of the folder.
    pub disk: u64,
    /// States in memory from which a sequence can continue.
    pub snapshots: u64,
}

/// What a model's engines have done since the start, all of them together. It only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Layers computed, as in [`Pulse::progress`].
    pub progress: u64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Forward passes.
    pub passes: u64,
    /// What was reused.
    pub prefixes: PrefixTotals,
}

/// What was reused of computed prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixTotals {
    /// Prompts that began with a computed prefix.
    pub hits: u64,
    /// Their tokens that were not computed.
    pub hit_tokens: u64,
    /// Snapshots that were evicted.
    pub evictions: u64,
    /// Prompts that waited for another one with the same beginning.
    pub waits: u64,
    /// Snapshots that were read from disk.
    pub restores: u64,
    /// Microseconds that reading them took.
    pub restore_us: u64,
    /// Hits that were computed after all, since the logits behind the prefix were not finite.
    pub restarts: u64,
    /// Hits that were computed again and compared.
    pub checks: u64,
    /// Checks that found a difference.
    pub differences: u64,
}

impl EngineFigures {
    /// The figures of an engine.
    pub(crate) fn of(engine: &Engine) -> Self {
        Self {
            heartbeat: engine.heartbeat().clone(),
            stats: engine.stats().clone(),
            memory: engine.admission().clone(),
            slots: engine.limits().slots,
        }
    }

    /// Whether both are figures of the same engine.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.heartbeat, &other.heartbeat)
    }

    /// Its heartbeat now.
    pub(crate) fn pulse(&self) -> Pulse {
        self.heartbeat.read()
    }

    /// What it has now.
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            slots: self.slots,
            limit: self.memory.budget(),
            reserved: self.memory.reserved(),
            prefixes: KeptPrefixes {
                memory: self.stats.prefix_hot_bytes.load(Relaxed),
                disk: self.stats.prefix_cold_bytes.load(Relaxed),
                snapshots: self.stats.prefix_snapshots.load(Relaxed),
            },
        }
    }

    /// What it has done.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            progress: self.heartbeat.read().progress,
            prompt_tokens: self.stats.prompt_tokens.load(Relaxed),
            generated_tokens: self.stats.generated_tokens.load(Relaxed),
            passes: self.stats.passes.load(Relaxed),
            prefixes: PrefixTotals {
                hits: self.stats.prefix_hits.load(Relaxed),
                hit_tokens: self.stats.prefix_hit_tokens.load(Relaxed),
                evictions: self.stats.prefix_evictions.load(Relaxed),
                waits: self.stats.prefix_waits.load(Relaxed),
                restores: self.stats.prefix_restores.load(Relaxed),
                restore_us: self.stats.prefix_restore_us.load(Relaxed),
                restarts: self.stats.prefix_restarts.load(Relaxed),
                checks: self.stats.prefix_checks.load(Relaxed),
                differences: self.stats.prefix_differences.load(Relaxed),
            },
        }
    }
}

/// Adds two of them field by field.
macro_rules! add_fields {
    ($figures:ident: $($field:ident),+) => {
        impl Add for $figures {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($field: self.$field + other.$field),+ }
            }
        }
    };
}

add_fields!(Totals: progress, prompt_tokens, generated_tokens, passes, prefixes);
add_fields!(PrefixTotals: hits, hit_tokens, evictions, waits, restores, restore_us, restarts, checks, differences);

impl Add for KeptPrefixes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            memory: self.memory + other.memory,
            // Of the folder that both have.
            disk: self.disk.max(other.disk),
            snapshots: self.snapshots + other.snapshots,
        }
    }
}

impl Add for Capacity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            slots: self.slots + other.slots,
            limit: self.limit.saturating_add(other.limit),
            reserved: self.reserved.saturating_add(other.reserved),
            prefixes: self.prefixes + other.prefixes,
        }
    }
}
