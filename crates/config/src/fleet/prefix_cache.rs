//! Prefix reuse of a server: who shares what was computed, how much is kept, and how much of it is checked.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Which clients share the prefixes of prompts that were computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrefixCacheScope {
    /// All of them: a client can find out by trying how a prompt of another one begins.
    Shared,
    /// Each client reuses its own prefixes only.
    #[default]
    PerClient,
    /// Every prompt is computed from its first token.
    Off,
}

/// An amount of memory or disk in GiB, fractions allowed; more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Gigabytes(f64);

/// The share of reused prefixes that are computed again and compared, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct CheckRate(f64);

/// The most that a `cache_dir` takes by default.
pub const DISK_LIMIT: Gigabytes = Gigabytes(20.0);

impl PrefixCacheScope {
    const NAMES: [(&'static str, Self); 3] = [
        ("shared", Self::Shared),
        ("per-client", Self::PerClient),
        ("off", Self::Off),
    ];
}

impl FromStr for PrefixCacheScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = Self::NAMES.iter();
        names
            .find(|(name, _)| *name == text)
            .map(|(_, mode)| *mode)
            .ok_or_else(|| format!("`{text}` is not one of shared, per-client, off"))
    }
}

impl fmt::Display for PrefixCacheScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES.iter();
        let name = names.find(|(_, mode)| mode == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl Gigabytes {
    /// In bytes; at least one.
    pub fn bytes(self) -> u64 {
        // A float that is too large becomes the largest integer.
        ((self.0 * f64::from(1 << 30)) as u64).max(1)
    }
}

impl TryFrom<f64> for Gigabytes {
    type Error = String;

    fn try_from(gigabytes: f64) -> Result<Self, String> {
        match gigabytes.is_finite() && gigabytes > 0.0 {
            true => Ok(Self(gigabytes)),
            false => Err(format!(
                "{gigabytes} GiB is not an amount; write a number above 0, such as 8 or 0.5"
            )),
        }
    }
}

impl FromStr for Gigabytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: f64 = text
            .parse()
            .map_err(|_| format!("`{text}` is not a number of GiB, such as 8 or 0.5"))?;
        number.try_into()
    }
}

impl fmt::Display for Gigabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GiB", self.0)
    }
}

impl CheckRate {
    /// The share, 0 to 1.
    pub fn share(self) -> f64 {
        self.0
    }
}

impl Default for CheckRate {
    fn default() -> Self {
        Self(0.02)
    }
}

impl TryFrom<f64> for CheckRate {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        match (0.0..=1.0).contains(&share) {
            true => Ok(Self(share)),
            false => Err(format!(
                "{share} is not a share; write a number from 0 (nothing is checked) to 1 (everything), such as 0.02"
            )),
        }
    }
}

impl FromStr for CheckRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: f64 = text
            .parse()
            .map_err(|_| format!("`{text}` is not a number from 0 to 1, such as 0.02"))?;
        number.try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gigabytes_are_bytes_and_fractions_count() {
        assert_eq!("8".parse::<Gigabytes>().unwrap().bytes(), 8 << 30);
        assert_eq!("0.5".parse::<Gigabytes>().unwrap().bytes(), 1 << 29);
        assert_eq!("1e300".parse::<Gigabytes>().unwrap().bytes(), u64::MAX);
        for wrong in ["0", "-1", "inf", "NaN", "8gb", ""] {
            assert!(wrong.parse::<Gigabytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn check_rate_is_a_share() {
        assert_eq!("0.02".parse::<CheckRate>().unwrap(), CheckRate::default());
        for wrong in ["1.1", "-0.1", "NaN", "2%"] {
            assert!(wrong.parse::<CheckRate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn prefix_cache_is_read_by_the_name_that_it_shows() {
        for (name, mode) in PrefixCacheScope::NAMES {
            assert_eq!(name.parse(), Ok(mode));
            assert_eq!(mode.to_string(), name);
        }
        assert!("per_client".parse::<PrefixCacheScope>().is_err());
    }
}
