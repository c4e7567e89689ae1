//! The state of an engine, readable without a lock.
//!
//! A watchdog must distinguish a busy engine from a hung one. Both have requests in flight, but only the hung one makes no
//! progress. So every layer of every pass increments a counter, and a reader sees how long ago that was.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The phase of an engine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum EnginePhase {
    /// Reading weights or warming up; requests are not served yet.
    Loading,
    /// Serving.
    Ready,
    /// Finishing accepted requests; new ones are refused.
    Draining,
}

/// The engine's heartbeat: written by the engine's thread, read by any thread, never locked.
#[derive(Debug)]
pub struct Heartbeat {
    born: Instant,
    phase: AtomicU8,
    in_flight: AtomicUsize,
    queued: AtomicUsize,
    progress: AtomicU64,
    moved_ms: AtomicU64,
}

/// One reading of a [`Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The engine's phase.
    pub phase: EnginePhase,
    /// Sequences that hold a slot.
    pub in_flight: usize,
    /// Requests that wait for a slot.
    pub queued: usize,
    /// A number that only grows: layers computed, loading and warm-up included.
    pub progress: u64,
    /// How long ago `progress` last moved.
    pub age: Duration,
}

impl Heartbeat {
    /// A new heartbeat, in [`EnginePhase::Loading`].
    #[allow(clippy::new_without_default)] // it reads the clock: a default should not
    pub fn new() -> Self {
        Self {
            born: Instant::now(),
            phase: AtomicU8::new(EnginePhase::Loading as u8),
            in_flight: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            progress: AtomicU64::new(0),
            moved_ms: AtomicU64::new(0),
        }
    }

    /// Records that a unit of work is done: a layer of a pass, a tensor of a load.
    pub fn beat(&self) {
        self.progress.fetch_add(1, Relaxed);
        self.moved_ms
            .store(self.born.elapsed().as_millis() as u64, Relaxed);
    }

    /// Reads it.
    pub fn read(&self) -> Pulse {
        let moved = Duration::from_millis(self.moved_ms.load(Relaxed));
        Pulse {
            phase: match self.phase.load(Relaxed) {
                0 => EnginePhase::Loading,
                1 => EnginePhase::Ready,
                _ => EnginePhase::Draining,
            },
            in_flight: self.in_flight.load(Relaxed),
            queued: self.queued.load(Relaxed),
            progress: self.progress.load(Relaxed),
            age: self.born.elapsed().saturating_sub(moved),
        }
    }

    /// Enters a phase.
    pub fn enter(&self, phase: EnginePhase) {
        self.phase.store(phase as u8, Relaxed);
        self.beat();
    }

    /// Records how many sequences hold a slot and how many requests wait for one.
    pub fn set_load(&self, in_flight: usize, queued: usize) {
        self.in_flight.store(in_flight, Relaxed);
        self.set_queued(queued);
    }

    /// Records how many requests wait for a slot.
    pub fn set_queued(&self, queued: usize) {
        self.queued.store(queued, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beat_increments_progress_and_resets_age() {
        let heartbeat = Heartbeat::new();
        let before = heartbeat.read();
        assert_eq!(before.phase, EnginePhase::Loading);
        heartbeat.set_load(3, 7);
        heartbeat.enter(EnginePhase::Ready);
        let after = heartbeat.read();
        assert_eq!((after.in_flight, after.queued), (3, 7));
        assert_eq!(after.phase, EnginePhase::Ready);
        assert_eq!(after.progress, before.progress + 1);
    }
}
