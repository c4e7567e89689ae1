//! The names and addresses that a server's certificate stands for (subject alternative names, RFC 5280, 4.2.1.6).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::SanType;
use serde::{Serialize, Serializer};

/// One name or address under which clients reach a server. Ordered, so that lists of them can be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum San {
    /// A host's name, in lower case.
    Dns(String),
    /// An address; never "any" (`0.0.0.0`, `::`), and IPv4 is never written as IPv6.
    Ip(IpAddr),
}

/// A text that is neither a name nor an address that a client could ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSan {
    /// It stands for all addresses.
    #[error(
        "`{0}` means every address, and no client can connect to it; name the addresses that clients use"
    )]
    Any(String),
    /// Neither one nor the other.
    #[error(
        "`{0}` is neither an IP address nor a host name (letters, digits and `-` between dots, no port, no wildcard)"
    )]
    Neither(String),
}

impl San {
    /// As rcgen takes it.
    pub(crate) fn to_rcgen(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Ip(address) => SanType::IpAddress(*address),
        })
    }

    /// The names under which every host knows itself.
    pub fn local() -> [Self; 3] {
        [
            Self::Dns("localhost".into()),
            Self::Ip([127, 0, 0, 1].into()),
            Self::Ip(std::net::Ipv6Addr::LOCALHOST.into()),
        ]
    }
}

/// From an address; none if it stands for all addresses.
pub fn of_address(address: IpAddr) -> Option<San> {
    let address = address.to_canonical();
    (!address.is_unspecified()).then_some(San::Ip(address))
}

impl FromStr for San {
    type Err = BadSan;

    fn from_str(text: &str) -> Result<Self, BadSan> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return of_address(address).ok_or_else(|| BadSan::Any(text.to_owned()));
        }
        let label = |part: &str| {
            (1..=63).contains(&part.len())
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        // A name whose last part is a number would be read as an address somewhere (`127.1`).
        let last = text.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|b| b.is_ascii_digit());
        if text.len() <= 253 && text.split('.').all(label) && !numeric {
            Ok(Self::Dns(text.to_ascii_lowercase()))
        } else {
            Err(BadSan::Neither(text.to_owned()))
        }
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl Serialize for San {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_addresses_are_distinguished() {
        let parse = |text: &str| text.parse::<San>();
        assert_eq!(parse("Mini.local"), Ok(San::Dns("mini.local".into())));
        assert_eq!(parse("100.64.0.25").unwrap().to_string(), "100.64.0.25");
        assert_eq!(parse("::1"), Ok(San::Ip("::1".parse().unwrap())));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
        for any in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert_eq!(parse(any), Err(BadSan::Any(any.into())));
        }
        for bad in [
            "",
            ".",
            "a..b",
            "a.",
            ".a",
            "-a",
            "a-",
            "a_b",
            "*.a",
            "127.1",
            "10.0.0.256",
            "a b",
            "ü",
            "host:1338",
            "[::1]",
            "fe80::1%en0",
            "1.2.3.4/8",
            &"a".repeat(64),
            &["a"; 128].join("."),
        ] {
            assert_eq!(parse(bad), Err(BadSan::Neither(bad.into())), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_san_is_one_again_and_fits_a_certificate(text in "[a-zA-Z0-9:.*_é -]{0,40}") {
            if let Ok(san) = text.parse::<San>() {
                prop_assert!(san.to_rcgen().is_ok());
                prop_assert_eq!(san.to_string().parse(), Ok(san));
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<San>();
        }
    }
}
