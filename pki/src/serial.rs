//! Serial numbers of certificates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// A serial number: the big-endian bytes of a positive integer, without zeros in front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Serial(Vec<u8>);

/// Not a serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a serial number: 1 to 20 bytes in hex digits are expected, with or without colons"
)]
pub struct BadSerial(String);

impl Serial {
    /// Sixteen random bytes, the first never zero.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        // A set top bit would cost a seventeenth byte in DER, a first byte of zero would be cut off.
        bytes[0] = bytes[0] & 0x7F | 0x40;
        Ok(Self(bytes.into()))
    }

    /// From the bytes of a DER integer.
    pub fn from_der(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes[zeros..].into())
    }

    /// As rcgen takes it.
    pub(crate) fn to_rcgen(&self) -> rcgen::SerialNumber {
        rcgen::SerialNumber::from_slice(&self.0)
    }
}

impl FromStr for Serial {
    type Err = BadSerial;

    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let bad = || BadSerial(text.to_owned());
        let digits: Vec<u8> = text
            .chars()
            .filter(|char| *char != ':')
            .map(|char| char.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or_else(bad)?;
        // An odd count has a zero in front that was left out.
        let (odd, pairs) = digits.split_at(digits.len() % 2);
        let pairs = pairs.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
        let serial = Self::from_der(&odd.iter().copied().chain(pairs).collect::<Vec<_>>());
        match (1..=20).contains(&serial.0.len()) {
            true => Ok(serial),
            false => Err(bad()),
        }
    }
}

impl TryFrom<String> for Serial {
    type Error = BadSerial;

    fn try_from(text: String) -> Result<Self, BadSerial> {
        text.parse()
    }
}

/// Hex digits, two a byte, as `openssl x509 -serial` prints them but in lower case.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_ways_of_writing_a_serial_mean_the_same() {
        let serial = Serial::from_der(&[0, 0x8a, 1]);
        for text in ["8a01", "8A:01", "008a01", "08a01"] {
            assert_eq!(text.parse(), Ok(serial.clone()), "{text}");
        }
        assert_eq!(serial.to_string(), "8a01");
        for bad in ["", "0", "::", "xy", "8a-01", &"11".repeat(21)] {
            assert!(bad.parse::<Serial>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_ones_have_sixteen_bytes_and_differ() {
        let [a, b] = [Serial::random().unwrap(), Serial::random().unwrap()];
        assert_eq!((a.0.len(), b.0.len()), (16, 16));
        assert_ne!(a, b);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in prop::collection::vec(any::<u8>(), 1..20), text in "\\PC{0,50}") {
            let serial = Serial::from_der(&bytes);
            if bytes.iter().any(|byte| *byte != 0) {
                prop_assert_eq!(serial.to_string().parse(), Ok(serial));
            }
            let _ = text.parse::<Serial>();
        }
    }
}
