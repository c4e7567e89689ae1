//! Which addresses a server may listen on together, checked before any of them is bound.

use std::net::IpAddr;

use sanctum_config::ListenAddress;

/// Addresses that cannot be used together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// The watchdogs of this machine could not reach it.
    #[error(
        "none of the addresses is a loopback address, which this machine's own watchdogs need; add --host 127.0.0.1 \
         (in fleet.toml: listen = [\"127.0.0.1:1337\", …]), or --tls-host 127.0.0.1 where every client must show a certificate"
    )]
    NoLoopback,
    /// One address twice.
    #[error("the address {0} is given twice; leave one out")]
    Twice(ListenAddress),
    /// One of them includes the other.
    #[error(
        "{all} includes {one}, and both cannot be listened on; leave one out, or give one another port"
    )]
    Within {
        /// The wildcard.
        all: ListenAddress,
        /// The address that it includes.
        one: ListenAddress,
    },
}

/// Whether requests from this machine to itself arrive at the address.
pub(crate) fn is_local(address: &ListenAddress) -> bool {
    let ip = address.ip().to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

/// Checks the addresses of all listeners together.
pub(crate) fn check(addresses: &[ListenAddress]) -> Result<(), AddressError> {
    if !addresses.iter().any(is_local) {
        return Err(AddressError::NoLoopback);
    }
    for (index, one) in addresses.iter().enumerate() {
        // Port 0 becomes a port of its own for each of them.
        let same_port = |other: &&ListenAddress| other.port() == one.port() && one.port() != 0;
        for other in addresses[..index].iter().filter(same_port) {
            if canonical(one) == canonical(other) {
                return Err(AddressError::Twice(one.clone()));
            }
            for (all, one) in [(one, other), (other, one)] {
                if includes(all.ip(), one.ip()) {
                    return Err(AddressError::Within {
                        all: all.clone(),
                        one: one.clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// The same address on two interfaces is two addresses.
fn canonical(address: &ListenAddress) -> (IpAddr, Option<&str>) {
    (address.ip().to_canonical(), address.zone())
}

/// `::` includes IPv4, as systems are configured.
fn includes(all: IpAddr, one: IpAddr) -> bool {
    match all {
        IpAddr::V4(all) => all.is_unspecified() && one.to_canonical().is_ipv4(),
        IpAddr::V6(all) => all.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(addresses: &[&str]) -> Result<(), String> {
        let addresses: Vec<ListenAddress> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        check(&addresses).map_err(|error| error.to_string())
    }

    #[test]
    fn one_address_must_be_or_include_loopback() {
        for own in [
            "127.0.0.1:1",
            "[::1]:1",
            "0.0.0.0:1",
            "[::]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(checked(&["10.0.0.1:2", own]), Ok(()), "{own}");
        }
        let error = checked(&["10.0.0.1:1"]).unwrap_err();
        assert!(error.contains("--host 127.0.0.1"), "{error}");
        assert!(checked(&[]).is_err());
    }

    #[test]
    fn addresses_that_cannot_be_bound_together_are_named() {
        let error = checked(&["127.0.0.1:1337", "0.0.0.0:1337"]).unwrap_err();
        assert!(
            error.contains("0.0.0.0:1337 includes 127.0.0.1:1337"),
            "{error}"
        );
        let error = checked(&["[::]:1337", "127.0.0.1:1337"]).unwrap_err();
        assert!(
            error.contains("[::]:1337 includes 127.0.0.1:1337"),
            "{error}"
        );
        let error = checked(&["127.0.0.1:1", "[::ffff:127.0.0.1]:1"]).unwrap_err();
        assert!(error.contains("twice"), "{error}");
        assert_eq!(checked(&["127.0.0.1:1337", "0.0.0.0:1338"]), Ok(()));
        assert_eq!(
            checked(&["127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:0"]),
            Ok(())
        );
        assert_eq!(checked(&["[::1]:1", "0.0.0.0:1"]), Ok(()));
        let links = ["[::1]:1", "[fe80::1%en0]:1", "[fe80::1%en1]:1"];
        assert_eq!(checked(&links), Ok(()));
        let error = checked(&["[::1]:1", "[fe80::1%en0]:1", "[fe80::1%en0]:1"]).unwrap_err();
        assert!(error.contains("[fe80::1%en0]:1 is given twice"), "{error}");
    }
}
