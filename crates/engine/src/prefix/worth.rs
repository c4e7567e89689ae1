//! How long a snapshot is worth its memory: GreedyDual-Size-Frequency.
//!
//! Cherkasova, *Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy*, HP Laboratories report
//! HPL-98-69R1, 1998. A snapshot's priority is `clock + uses * cost / size`: `cost` the tokens that must be computed without it,
//! `size` the bytes that are freed without it. The one of the lowest priority is evicted, and the clock becomes its priority: what is not
//! used again falls behind what is newer.

/// What a snapshot has been worth so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worth {
    /// The clock at its last use.
    clock: f64,
    uses: u32,
}

/// Advances with each eviction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock(f64);

impl Clock {
    /// A snapshot is new.
    pub(crate) fn begin(self) -> Worth {
        Worth {
            clock: self.0,
            uses: 1,
        }
    }

    /// A snapshot is used once more.
    pub(crate) fn touch(self, worth: &mut Worth) {
        worth.clock = self.0;
        worth.uses = worth.uses.saturating_add(1);
    }

    /// A snapshot of this priority is evicted.
    pub(crate) fn evicted(&mut self, priority: f64) {
        self.0 = self.0.max(priority);
    }
}

impl Worth {
    /// The priority of a snapshot that saves so many tokens and takes so many bytes.
    pub(crate) fn priority(self, tokens: usize, bytes: u64) -> f64 {
        self.clock + f64::from(self.uses) * tokens as f64 / bytes.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_grows_with_uses_and_tokens_and_falls_with_bytes() {
        let clock = Clock::default();
        let (once, mut twice) = (clock.begin(), clock.begin());
        clock.touch(&mut twice);
        assert!(twice.priority(10, 100) > once.priority(10, 100));
        assert!(once.priority(20, 100) > once.priority(10, 100));
        assert!(once.priority(10, 100) > once.priority(10, 200));
    }

    #[test]
    fn snapshot_that_is_not_used_falls_behind_newer_ones() {
        let mut clock = Clock::default();
        let old = clock.begin();
        let mut evictions = 0;
        loop {
            let new = clock.begin().priority(10, 100);
            if new > old.priority(100, 100) {
                break;
            }
            clock.evicted(new);
            evictions += 1;
        }
        assert_eq!(evictions, 10);
    }
}
