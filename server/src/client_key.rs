//! The client that a connection or a request counts for, wherever something is limited per client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sanctum_config::UntrustedText;

use crate::peer::Peer;

/// The name of [`ClientKey::Loopback`] for other servers.
pub(crate) const LOOPBACK: &str = "loopback";
/// The name of [`ClientKey::LoopbackWithToken`] for other servers.
pub(crate) const LOOPBACK_WITH_TOKEN: &str = "loopback-with-token";
/// Characters of a label, at most.
const LONGEST_LABEL: usize = 200;

/// One client, for limits.
///
/// An IPv6 host chooses the lower 64 bits of its addresses itself and can use as many of them as it likes, so that a
/// limit per address would be no limit. Its network (the upper 64 bits) counts as one client instead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientKey {
    /// The common name of a client certificate, from any address.
    Certificate(Arc<str>),
    /// This machine, 127.0.0.0/8 and ::1, in requests that show neither a certificate nor the bearer token.
    Loopback,
    /// This machine, in requests with the bearer token.
    LoopbackWithToken,
    /// An IPv4 address; IPv4-mapped IPv6 addresses are the IPv4 addresses that they carry.
    Ipv4(Ipv4Addr),
    /// The upper 64 bits of an IPv6 address.
    Ipv6Network(u64),
    /// All link-local IPv6 addresses of one interface, by its scope id. A machine can use any number of addresses in
    /// fe80::/64, so that a limit per address would be no limit. The price: all machines of a link that use link-local
    /// addresses without a client certificate share one client's limits.
    Ipv6Link(u32),
}

impl ClientKey {
    /// The client by its address alone: what is known before TLS.
    pub(crate) fn of_address(address: SocketAddr) -> Self {
        let scope = match address {
            SocketAddr::V6(address) => address.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        match address.ip().to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(address) => Self::Ipv4(address),
            IpAddr::V6(address) if address.is_unicast_link_local() => Self::Ipv6Link(scope),
            IpAddr::V6(address) => Self::Ipv6Network((address.to_bits() >> 64) as u64),
        }
    }

    /// The client by its certificate if it showed one, else by its address.
    pub(crate) fn of_peer(peer: &Peer) -> Self {
        match &peer.identity {
            Some(identity) => Self::Certificate(identity.name().into()),
            None => Self::of_address(peer.address),
        }
    }

    /// The same client, known to have the bearer token. Only on this machine does that tell one client from another.
    pub(crate) fn with_token(self) -> Self {
        match self {
            Self::Loopback => Self::LoopbackWithToken,
            other => other,
        }
    }

    /// For operators: the certificate's name, an address, `loopback` or `loopback with token`.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Certificate(name) => UntrustedText::bounded(name, LONGEST_LABEL).into(),
            Self::LoopbackWithToken => "loopback with token".into(),
            other => other.to_string(),
        }
    }

    /// Whether this is this machine without a certificate.
    pub(crate) fn is_loopback(&self) -> bool {
        matches!(self, Self::Loopback | Self::LoopbackWithToken)
    }
}

/// For another server, its limits and its logs: `certificate:NAME`, an address, or `loopback`. No name of a certificate equals
/// anything else.
impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(name) => {
                f.write_str("certificate:")?;
                for byte in name.bytes() {
                    match byte.is_ascii_graphic() && byte != b'%' {
                        true => write!(f, "{}", char::from(byte))?,
                        false => write!(f, "%{byte:02X}")?,
                    }
                }
                Ok(())
            }
            Self::Loopback => f.write_str(LOOPBACK),
            Self::LoopbackWithToken => f.write_str(LOOPBACK_WITH_TOKEN),
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6Network(upper) => {
                let network = Ipv6Addr::from_bits(u128::from(*upper) << 64);
                write!(f, "{network}/64")
            }
            Self::Ipv6Link(scope) => write!(f, "fe80::/64%{scope}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Identity;

    fn key(address: &str) -> ClientKey {
        let address: IpAddr = address.parse().unwrap();
        ClientKey::of_address((address, 9).into())
    }

    #[test]
    fn ipv6_network_is_one_client_and_ipv4_addresses_are_several() {
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:ffff:ffff:fffe"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn ipv4_mapped_address_is_its_ipv4_address() {
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("::ffff:192.0.2.1"), key("::ffff:192.0.2.2"));
    }

    #[test]
    fn loopback_is_one_client_in_every_form() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(key(address).is_loopback(), "{address}");
        }
        assert!(!key("::2").is_loopback() && !key("192.0.2.1").is_loopback());
    }

    #[test]
    fn certificate_has_another_name_than_any_address() {
        let named = |name: &str| ClientKey::Certificate(name.into()).to_string();
        assert_eq!(named("ada"), "certificate:ada");
        assert_eq!(named("a b%\u{e9}"), "certificate:a%20b%25%C3%A9");
        assert_eq!(ClientKey::Loopback.to_string(), "loopback");
        assert_ne!(named("loopback"), ClientKey::Loopback.to_string());
    }

    #[test]
    fn link_local_addresses_of_one_interface_are_one_client() {
        let key = |address: &str| ClientKey::of_address(address.parse().unwrap());
        assert_eq!(key("[fe80::1%4]:9"), key("[fe80::2%4]:7"));
        assert_ne!(key("[fe80::1%4]:9"), key("[fe80::1%5]:9"));
        assert_ne!(key("[fe80::1%4]:9"), key("[2001:db8::1]:9"));
    }

    #[test]
    fn label_is_one_safe_line() {
        let label = |name: &str| ClientKey::Certificate(name.into()).label();
        assert_eq!(label("front for ada"), "front for ada");
        assert_eq!(label("a\u{1b}[2J\u{202e}"), "a\\u{1b}[2J\\u{202e}");
        assert_eq!(ClientKey::LoopbackWithToken.label(), "loopback with token");
        assert_eq!(key("192.0.2.1").label(), "192.0.2.1");
    }

    #[test]
    fn certificate_counts_from_any_address() {
        let peer = |address: &str, name: Option<&str>| Peer {
            address: address.parse().unwrap(),
            identity: name.map(|name| Identity::new(name, || true)),
        };
        let key = |address, name| ClientKey::of_peer(&peer(address, name));
        let laptop = key("192.0.2.1:9", Some("laptop"));
        assert_eq!(laptop, key("[2001:db8::1]:9", Some("laptop")));
        assert_ne!(laptop, key("192.0.2.1:9", Some("canary")));
        assert_eq!(key("[2001:db8::1]:9", None), key("[2001:db8::2]:7", None));
    }
}
