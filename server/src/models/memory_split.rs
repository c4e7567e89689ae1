//! How a model's memory is divided while two of its engines run.

use sanctum_engine::launch::MemoryShare;
use sanctum_engine::schedule::{Engine, HeldMemory};

/// How a model's memory is divided while two of its engines run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MemorySplit {
    /// For the sequences of the engine that runs.
    old: u64,
    /// All memory of that engine, which the new one must leave to it.
    pub(super) beside: u64,
}

impl MemorySplit {
    /// Divides it, and lowers what the running engine may take.
    ///
    /// # Errors
    /// The numbers, if there is not enough.
    pub(super) fn make(memory: MemoryShare, engine: &Engine, adapter: u64) -> Result<Self, String> {
        let admission = engine.admission();
        let least = admission.cost.of(engine.limits().context.min(1024));
        engine.lower_budget(|held| {
            let room = Self::share(memory, held, least, adapter)?;
            Ok((room.old, room))
        })
    }

    /// What was promised to requests stays theirs; what is left is shared evenly, and the new engine can take at least one
    /// sequence of a usual length.
    fn share(
        memory: MemoryShare,
        held: HeldMemory,
        least: u64,
        adapter: u64,
    ) -> Result<Self, String> {
        let both = memory.weights.saturating_mul(2).saturating_add(adapter);
        let held = held.running.max(held.largest_waiting);
        let needed = both.saturating_add(held).saturating_add(least);
        if needed > memory.most {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            return Err(format!(
                "a swap needs {} MiB of memory for a while (two times {} MiB of weights, {} MiB of the adapter's, {} MiB of \
                 requests, {} MiB for a new one) and this model has {} MiB; wait until fewer requests run, raise \
                 --metal-memory-limit-mb, or restart with --adapter-path",
                mib(needed),
                mib(memory.weights),
                mib(adapter),
                mib(held),
                mib(least),
                memory.most >> 20,
            ));
        }
        let room = memory.most - both;
        let old = (room / 2).max(held).min(room - least);
        Ok(Self {
            old,
            beside: memory.weights + old,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_never_have_more_than_there_is() {
        let share =
            |weights, most, held| MemorySplit::share(MemoryShare { weights, most }, held, 10, 0);
        let running = |running| HeldMemory {
            running,
            largest_waiting: 0,
        };
        let room = |old| {
            Ok(MemorySplit {
                old,
                beside: 100 + old,
            })
        };
        assert_eq!(share(100, 300, running(0)), room(50));
        assert_eq!(share(100, 300, running(80)), room(80));
        assert_eq!(share(100, 300, running(90)), room(90));
        let waiting = HeldMemory {
            running: 20,
            largest_waiting: 85,
        };
        assert_eq!(share(100, 300, waiting), room(85));
        let adapter = MemorySplit::share(
            MemoryShare {
                weights: 100,
                most: 300,
            },
            waiting,
            10,
            6,
        );
        assert!(adapter.unwrap_err().contains("has 0 MiB"));
        let error = share(100 << 20, 300 << 20, running(91 << 20)).map(|room| room.old);
        assert_eq!(error, Ok(91 << 20));
        let error = share(100 << 20, 300 << 20, running(100 << 20)).unwrap_err();
        assert!(
            error.contains("needs 301 MiB") && error.contains("has 300 MiB"),
            "{error}"
        );
        assert!(share(u64::MAX, 300, running(0)).is_err());
        assert!(share(0, u64::MAX, running(0)).is_ok());
    }
}
