//! Who may reuse whose prefixes.

use std::fmt;

use sha2::{Digest, Sha256};

/// Requests share prefixes only within one scope: a hash of what separates them, such as a salt or the client. The default
/// scope, all zeros, is that of requests which nothing separates.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope([u8; 16]);

/// Whether a request reuses prefixes and leaves its own for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// Everything is computed, and nothing is kept.
    #[default]
    Off,
    /// Within a scope.
    Scope(Scope),
}

impl Scope {
    /// The scope of these values, in this order.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // With its length: parts that are divided in another way are another scope.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self::truncated(&hash.finalize())
    }

    /// The scope with this number.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its number.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn truncated(hash: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes
            .iter_mut()
            .zip(hash)
            .for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

/// In hexadecimal digits.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_of_parts_depends_on_where_they_are_divided() {
        let one = Scope::of(&[b"ab", b"c"]);
        assert_eq!(one, Scope::of(&[b"ab", b"c"]));
        assert_ne!(one, Scope::of(&[b"a", b"bc"]));
        assert_ne!(one, Scope::of(&[b"abc"]));
        assert_ne!(Scope::of(&[]), Scope::default());
        assert_eq!(Scope::default().to_string(), "0".repeat(32));
    }
}
