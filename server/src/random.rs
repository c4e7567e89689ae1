//! Numbers that nobody can guess: seeds for requests that bring none, and ids of answers.

use std::hash::{BuildHasher, RandomState};

/// A random number.
pub fn number() -> u64 {
    // The system's source does not fail on any platform that we build for; if it ever did, the standard library's
    // per-process random hash keys are good enough for a seed and an id, neither of which is a secret.
    getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(std::time::Instant::now()))
}

/// An id that no other answer has: `prefix` and 24 hexadecimal digits.
pub fn id(prefix: &str) -> String {
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
