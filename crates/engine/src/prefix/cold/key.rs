//! The names of cold prefixes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// The bytes of a scope: prefixes are shared only within one.
pub(crate) type ScopeBytes = [u8; 16];

/// The hash of fingerprint, scope and all tokens of a prefix; in text 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ColdKey(pub(crate) [u8; 32]);

/// Computes the keys of the prefixes of one sequence, shortest first: each token is hashed once.
#[derive(Clone)]
pub(crate) struct KeyHasher(Sha256);

impl KeyHasher {
    pub(crate) fn new(fingerprint: &[u8; 32], scope: &ScopeBytes) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"sanctum prefix\0");
        hash.update(fingerprint);
        hash.update(scope);
        Self(hash)
    }

    /// Appends tokens.
    pub(crate) fn feed(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.0.update(token.to_le_bytes());
        }
    }

    /// The key of the tokens so far.
    pub(crate) fn key(&self) -> ColdKey {
        ColdKey(self.0.clone().finalize().into())
    }
}

/// The keys of one prompt's prefixes. A prompt that is looked up several times is hashed once: its keys are kept.
pub(crate) struct PromptKeys {
    pub(super) fingerprint: [u8; 32],
    pub(super) scope: ScopeBytes,
    /// By a number of tokens.
    known: BTreeMap<usize, ColdKey>,
    /// What has hashed the most tokens, and how many. Hashers are too large to keep one for each key.
    longest: Option<(usize, KeyHasher)>,
}

impl PromptKeys {
    pub(crate) fn new(fingerprint: &[u8; 32], scope: &ScopeBytes) -> Self {
        Self {
            fingerprint: *fingerprint,
            scope: *scope,
            known: BTreeMap::new(),
            longest: None,
        }
    }

    /// The key of the first `len` of `tokens`, which must be those of the same prompt in each call.
    pub(super) fn key(&mut self, tokens: &[u32], len: usize) -> ColdKey {
        if let Some(key) = self.known.get(&len) {
            return *key;
        }
        let begun = self.longest.as_ref().filter(|(fed, _)| *fed < len);
        let (fed, mut hasher) = match begun {
            Some(begun) => begun.clone(),
            None => (0, KeyHasher::new(&self.fingerprint, &self.scope)),
        };
        hasher.feed(&tokens[fed..len]);
        let key = hasher.key();
        self.known.insert(len, key);
        if self.longest.as_ref().is_none_or(|(fed, _)| *fed < len) {
            self.longest = Some((len, hasher));
        }
        key
    }
}

impl fmt::Display for ColdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ColdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ColdKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(()),
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(());
        };
        let bytes: Result<Vec<u8>, ()> = pairs
            .iter()
            .map(|&[high, low]| Ok(digit(high)? << 4 | digit(low)?))
            .collect();
        Ok(Self(bytes?.try_into().map_err(|_| ())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_depends_on_fingerprint_scope_and_every_token() {
        let key = |fingerprint: u8, scope: u8, tokens: &[u32]| {
            let mut hasher = KeyHasher::new(&[fingerprint; 32], &[scope; 16]);
            hasher.feed(tokens);
            hasher.key()
        };
        let one = key(1, 2, &[3, 4]);
        let others = [
            key(2, 2, &[3, 4]),
            key(1, 1, &[3, 4]),
            key(1, 2, &[3]),
            key(1, 2, &[3, 4, 0]),
            key(1, 2, &[4, 3]),
        ];
        assert!(others.iter().all(|other| *other != one));
        let mut parts = KeyHasher::new(&[1; 32], &[2; 16]);
        parts.feed(&[3]);
        assert_eq!(parts.key(), key(1, 2, &[3]));
        parts.feed(&[4]);
        assert_eq!(parts.key(), one);
    }

    #[test]
    fn key_of_a_prompt_is_hashed_once_in_any_order() {
        let tokens: Vec<u32> = (0..40).collect();
        let expected = |len: usize| {
            let mut hasher = KeyHasher::new(&[1; 32], &[2; 16]);
            hasher.feed(&tokens[..len]);
            hasher.key()
        };
        let mut keys = PromptKeys::new(&[1; 32], &[2; 16]);
        for len in [10, 30, 20, 0, 40] {
            assert_eq!(keys.key(&tokens, len), expected(len), "{len}");
        }
        // Without the tokens, so from memory.
        for len in [40, 20, 10, 30, 0] {
            assert_eq!(keys.key(&[], len), expected(len), "{len}");
        }
    }

    #[test]
    fn key_parses_only_its_own_text() {
        let mut hasher = KeyHasher::new(&[0; 32], &[0; 16]);
        hasher.feed(&[7]);
        let key = hasher.key();
        let text = key.to_string();
        assert_eq!((text.len(), text.parse()), (64, Ok(key)));
        for other in [
            "",
            "0",
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}00"),
        ] {
            // A key of digits only has no upper case.
            assert!(
                other == text || other.parse::<ColdKey>().is_err(),
                "{other}"
            );
        }
    }
}
