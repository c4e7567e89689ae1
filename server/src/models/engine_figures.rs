//! Figures of a model's engines, of which there are two while one replaces the other.

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use sanctum_engine::schedule::Admission;
use sanctum_engine::schedule::{Engine, EngineStats};
use sanctum_engine::schedule::{Heartbeat, Pulse};

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
        }
    }

    /// What it has done.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            progress: self.heartbeat.read().progress,
            prompt_tokens: self.stats.prompt_tokens.load(Relaxed),
            generated_tokens: self.stats.generated_tokens.load(Relaxed),
            passes: self.stats.passes.load(Relaxed),
        }
    }
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            progress: self.progress + other.progress,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            generated_tokens: self.generated_tokens + other.generated_tokens,
            passes: self.passes + other.passes,
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
        }
    }
}
