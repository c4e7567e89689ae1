//! How a cache of keys and values keeps its values: the same words and the same numbers on every device.
//!
//! Keys stay as they are, since their errors are magnified by the softmax; values are averaged, which forgives them.
//! [`naive::packed`](crate::naive::packed) is what a packed value stands for.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// How values are kept. Keys are always plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvMode {
    /// As they are computed.
    #[default]
    Plain,
    /// As codes of eight bits, with a scale and a zero in half precision for every [`KvMode::GROUP`] of them.
    V8,
    /// The same with four bits.
    V4,
}

/// A word that names no mode.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no KV cache of the kind `{0}`; write plain, v8 or v4")]
pub struct UnknownKvMode(String);

/// Heads that cannot be cut into groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a {mode} cache packs values in groups of {}, and head_dim is {head_dim}, which is no multiple of it; take plain",
    KvMode::GROUP
)]
pub struct UnfitKvMode {
    /// What was asked for.
    pub mode: KvMode,
    /// Dimensions of a head.
    pub head_dim: usize,
}

impl KvMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Plain, Self::V8, Self::V4];

    /// Numbers of one head that share a scale and a zero.
    pub const GROUP: usize = 64;

    /// Bits of a code; none where values are plain.
    pub fn bits(self) -> Option<usize> {
        match self {
            Self::Plain => None,
            Self::V8 => Some(8),
            Self::V4 => Some(4),
        }
    }

    /// Checks that heads of `head_dim` can be kept so.
    ///
    /// # Errors
    /// If they are packed and cannot be cut into groups.
    pub fn fit(self, head_dim: usize) -> Result<(), UnfitKvMode> {
        match self.bits() {
            Some(_) if !head_dim.is_multiple_of(Self::GROUP) => Err(UnfitKvMode {
                mode: self,
                head_dim,
            }),
            _ => Ok(()),
        }
    }

    /// Bytes of one head's key and value at one position, where a plain number takes `plain` of them.
    pub fn head_bytes(self, head_dim: usize, plain: usize) -> usize {
        let value = match self.bits() {
            None => head_dim * plain,
            Some(bits) => head_dim / Self::GROUP * (Self::GROUP * bits / 8 + 4),
        };
        head_dim * plain + value
    }
}

impl fmt::Display for KvMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::V8 => "v8",
            Self::V4 => "v4",
        })
    }
}

impl FromStr for KvMode {
    type Err = UnknownKvMode;

    fn from_str(text: &str) -> Result<Self, UnknownKvMode> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.to_string() == text)
            .ok_or_else(|| UnknownKvMode(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_named_as_they_are_read() {
        for mode in KvMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!(
            "v2".parse::<KvMode>().unwrap_err().to_string(),
            "there is no KV cache of the kind `v2`; write plain, v8 or v4"
        );
    }

    #[test]
    fn a_head_of_256_halves_and_more() {
        let bytes = KvMode::ALL.map(|mode| mode.head_bytes(256, 2));
        assert_eq!(bytes, [512 + 512, 512 + 256 + 16, 512 + 128 + 16]);
    }

    #[test]
    fn heads_that_cannot_be_cut_into_groups_stay_plain() {
        assert!(KvMode::V8.fit(128).is_ok() && KvMode::Plain.fit(96).is_ok());
        assert_eq!(
            KvMode::V4.fit(96).unwrap_err().to_string(),
            "a v4 cache packs values in groups of 64, and head_dim is 96, which is no multiple of it; take plain"
        );
    }
}
