//! The names of the conditions and events that each check alerts about, as an operator mutes them: `canary/misses`.

use crate::first_cause::{BLIND, BUDGET, OUTAGE};
use crate::watchdog::{BUSY, LEASE, MEMORY, MISSES};

/// The names of a check's conditions and events.
pub fn conditions(check: &str) -> impl Iterator<Item = &'static str> {
    let own: &[&str] = match check {
        "guardian" => &[
            OUTAGE,
            BUDGET,
            BLIND,
            "answers-again",
            "launchd",
            "memory",
            "panic",
            "prefix-check",
            "upstreams",
        ],
        "canary" => &["stopped"],
        "parity" => &["stopped", "report"],
        _ => &[],
    };
    let all = [MISSES, BUSY, MEMORY, LEASE].into_iter();
    all.chain(own.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_misses_and_only_the_guardian_has_outages() {
        for check in ["guardian", "canary", "drift", "parity"] {
            let all: Vec<_> = conditions(check).collect();
            assert!(all.contains(&MISSES) && all.contains(&LEASE), "{check}");
            assert_eq!(all.contains(&OUTAGE), check == "guardian", "{check}");
        }
    }
}
