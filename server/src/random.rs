//! Random numbers: seeds for requests that have none, and ids of responses.

use std::hash::{BuildHasher, RandomState};

/// A random number.
pub(crate) fn number() -> u64 {
    // The system's source does not fail on the supported platforms; if it did, the standard library's
    // per-process random hash keys are good enough for a seed, an id and the key of scopes.
    getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(std::time::Instant::now()))
}

/// A unique id: `prefix` and 24 hexadecimal digits.
pub(crate) fn id(prefix: &str) -> String {
    format!("{prefix}{:016x}{:08x}", number(), number() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let (a, b) = (id("chatcmpl-"), id("chatcmpl-"));
        assert_ne!(a, b);
        assert_eq!(a.len(), "chatcmpl-".len() + 24);
    }
}
