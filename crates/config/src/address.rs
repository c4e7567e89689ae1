//! Addresses to listen on, link-local ones with the zone (the interface) that they belong to.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use serde::Deserialize;

/// The longest name of an interface, in bytes (IFNAMSIZ, less its NUL).
const LONGEST_ZONE: usize = 15;

/// An IP address; a link-local IPv6 address always with its zone, as in `fe80::1%en0`.
///
/// Each interface has a network fe80::/64 of its own, so that such an address alone names no machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostAddress {
    ip: IpAddr,
    zone: Option<String>,
}

/// An IP address and a port, as in `127.0.0.1:1337` or `[fe80::1%en0]:1337`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ListenAddress {
    host: HostAddress,
    port: u16,
}

/// A text that is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is no IP address.
    #[error("`{0}` is no IP address; write one such as 127.0.0.1, ::1 or fe80::1%en0")]
    Host(String),
    /// It is no IP address with a port.
    #[error(
        "`{0}` is no socket address; write an IP address and a port, such as 127.0.0.1:1337 or [::1]:1337"
    )]
    Socket(String),
    /// A link-local address without its zone.
    #[error(
        "the link-local address {0} may exist on every interface; write the interface after it, such as {0}%en0 \
         (`ifconfig` lists them)"
    )]
    NoZone(IpAddr),
    /// A zone where none belongs.
    #[error("{0} has a zone, and only link-local IPv6 addresses (fe80::/10) have one; write {1}")]
    Zone(String, IpAddr),
}

impl HostAddress {
    /// The address without its zone.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// With a port.
    pub fn with_port(self, port: u16) -> ListenAddress {
        ListenAddress { host: self, port }
    }
}

impl ListenAddress {
    /// The address without zone and port.
    pub fn ip(&self) -> IpAddr {
        self.host.ip
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether two sockets cannot listen at both: they are equal, or one of them includes the other.
    pub(crate) fn clashes_with(&self, other: &Self) -> bool {
        // A socket that listens at `::` takes IPv4 connections too.
        let includes =
            |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
        let (ip, other_ip) = (self.ip(), other.ip());
        self.port == other.port
            && (self == other || includes(ip, other_ip) || includes(other_ip, ip))
    }

    /// The interface of a link-local address.
    pub fn zone(&self) -> Option<&str> {
        self.host.zone.as_deref()
    }

    /// What the system takes. The interface is looked up each time, since it may come later than the server.
    ///
    /// # Errors
    /// If there is no such interface now.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let (IpAddr::V6(ip), Some(zone)) = (self.host.ip, &self.host.zone) else {
            return Ok(SocketAddr::new(self.host.ip, self.port));
        };
        let scope = match zone.parse() {
            Ok(index) => index,
            Err(_) => nix::net::if_::if_nametoindex(zone.as_str()).map_err(|_| {
                io::Error::new(
                    io::ErrorKind::AddrNotAvailable,
                    format!("there is no interface `{zone}`"),
                )
            })?,
        };
        Ok(SocketAddrV6::new(ip, self.port, 0, scope).into())
    }
}

impl From<IpAddr> for HostAddress {
    fn from(ip: IpAddr) -> Self {
        Self { ip, zone: None }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        let zone = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id().to_string()),
            _ => None,
        };
        let ip = address.ip();
        HostAddress { ip, zone }.with_port(address.port())
    }
}

impl FromStr for HostAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress::Host(text.to_owned());
        let (ip, zone) = match text.split_once('%') {
            Some((ip, zone)) => (ip, Some(zone)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| bad())?;
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        match zone {
            None if link_local => Err(BadAddress::NoZone(ip)),
            None => Ok(ip.into()),
            Some(_) if !link_local => Err(BadAddress::Zone(text.to_owned(), ip)),
            Some(zone) => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
                match (1..=LONGEST_ZONE).contains(&zone.len()) && zone.bytes().all(plain) {
                    true => Ok(Self {
                        ip,
                        zone: Some(zone.to_owned()),
                    }),
                    false => Err(bad()),
                }
            }
        }
    }
}

impl FromStr for ListenAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress::Socket(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = match port.bytes().all(|byte| byte.is_ascii_digit()) {
            true => port.parse().map_err(|_| bad())?,
            false => return Err(bad()),
        };
        let bracketed = host.strip_prefix('[').map(|host| host.strip_suffix(']'));
        let host: HostAddress = match bracketed {
            Some(host) => host.ok_or_else(bad)?,
            None => host,
        }
        .parse()
        .map_err(|error| match error {
            BadAddress::Host(_) => bad(),
            other => other,
        })?;
        // Without brackets it is not known where an IPv6 address ends.
        match host.ip.is_ipv6() == bracketed.is_some() {
            true => Ok(host.with_port(port)),
            false => Err(bad()),
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.ip),
            None => self.ip.fmt(f),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.ip {
            IpAddr::V4(_) => write!(f, "{}:{}", self.host, self.port),
            IpAddr::V6(_) => write!(f, "[{}]:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<ListenAddress, String> {
        text.parse().map_err(|error: BadAddress| error.to_string())
    }

    #[test]
    fn address_is_shown_as_it_is_written() {
        for text in [
            "127.0.0.1:1337",
            "[::1]:0",
            "[2001:db8::7]:65535",
            "[fe80::1%en0]:1337",
            "[fe80::1%4]:1",
        ] {
            assert_eq!(parsed(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn link_local_address_without_zone_is_refused_with_the_fix() {
        let error = parsed("[fe80::1]:1337").unwrap_err();
        assert!(error.contains("fe80::1%en0"), "{error}");
        let error = "fe80::abcd".parse::<HostAddress>().unwrap_err().to_string();
        assert!(error.contains("fe80::abcd%en0"), "{error}");
        // IPv4's link-local addresses have no zone.
        assert!(parsed("169.254.1.1:1337").is_ok());
    }

    #[test]
    fn zone_of_another_address_is_refused_with_the_fix() {
        for (text, says) in [
            ("[::1%lo]:1", "write ::1"),
            ("127.0.0.1%lo:1", "write 127.0.0.1"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.ends_with(says), "{error}");
        }
    }

    #[test]
    fn what_is_no_socket_address_is_refused() {
        for text in [
            "",
            "127.0.0.1",
            "::1:1337",
            "[::1]",
            "[::1:1337",
            "[127.0.0.1]:1337",
            "localhost:1337",
            "127.0.0.1:65536",
            "127.0.0.1:+1",
            "[fe80::1%]:1",
            "[fe80::1%en0/x]:1",
            "[fe80::1%an-interface-without-end]:1",
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains("socket address"), "{text}: {error}");
        }
    }

    #[test]
    fn zone_is_resolved_to_its_interface() {
        let scope = |text: &str| match parsed(text).unwrap().resolve() {
            Ok(SocketAddr::V6(address)) => Ok(address.scope_id()),
            Ok(other) => panic!("{other}"),
            Err(error) => Err(error.to_string()),
        };
        let lo = if cfg!(target_os = "macos") {
            "lo0"
        } else {
            "lo"
        };
        assert_eq!(scope(&format!("[fe80::1%{lo}]:1")), Ok(1));
        assert_eq!(scope("[fe80::1%7]:1"), Ok(7));
        assert_eq!(scope("[2001:db8::1]:1"), Ok(0));
        let error = scope("[fe80::1%nowhere0]:1").unwrap_err();
        assert_eq!(error, "there is no interface `nowhere0`");
    }
}
