//! The name of an adapter: the name of its folder, safe in requests and fingerprints.

use std::fmt;
use std::str::FromStr;

/// Letters, digits, `.`, `_` and `-`, at most 64, not beginning with a dot: never a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdapterName(String);

/// Text that is not a valid adapter name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid adapter name; an adapter has the name of its folder: up to 64 letters, digits, `.`, `_` and `-`, not \
     beginning with a dot"
)]
pub struct InvalidAdapterName(String);

impl AdapterName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AdapterName {
    type Err = InvalidAdapterName;

    fn from_str(text: &str) -> Result<Self, InvalidAdapterName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidAdapterName(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
