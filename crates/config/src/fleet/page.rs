//! `[pages.NAME]`: the fleet page, which `sanctum-launchd status --serve` serves as an agent.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use crate::{Label, ListenAddress, duration};

/// `[pages.NAME]`: a fleet page.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetPage {
    /// The host that serves it.
    pub host: Label,
    /// The loopback address that it listens on; by default [`FleetPage::LISTEN`].
    pub listen: Option<ListenAddress>,
    /// Refresh after this time; by default [`FleetPage::EVERY`].
    #[serde(default, deserialize_with = "duration::optional")]
    pub every: Option<Duration>,
}

impl FleetPage {
    /// The default address.
    pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1340);
    /// The default of `every`.
    pub const EVERY: Duration = Duration::from_secs(30);
    /// The longest `every`: a cell of the history of 24 hours has ten minutes.
    const LONGEST: Duration = Duration::from_secs(300);
    /// The shortest `every`: a host that is asked over ssh takes a second to answer.
    const SHORTEST: Duration = Duration::from_secs(1);

    /// The address that a fleet page may listen on.
    ///
    /// # Errors
    /// If it is not a loopback address: every client that reaches the page can read it.
    pub fn loopback(address: &ListenAddress) -> Result<SocketAddr, String> {
        match address.ip().to_canonical() {
            ip if ip.is_loopback() => Ok(SocketAddr::new(ip, address.port())),
            _ => Err(format!(
                "the fleet page has no authentication and listens on loopback only, and {address} is no loopback address; \
                 write {}, and read it from another machine through: ssh -L {1}:127.0.0.1:{1} HOST",
                Self::LISTEN,
                address.port()
            )),
        }
    }

    /// The time after which a fleet page is refreshed.
    ///
    /// # Errors
    /// If it is too short or too long.
    pub fn interval(every: Duration) -> Result<Duration, String> {
        match (Self::SHORTEST..=Self::LONGEST).contains(&every) {
            true => Ok(every),
            false => Err(format!(
                "the fleet page is refreshed every {} to {} seconds, and not every {}; write \"30s\"",
                Self::SHORTEST.as_secs(),
                Self::LONGEST.as_secs(),
                humantime::format_duration(every)
            )),
        }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// As [`FleetPage::loopback`].
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.listen
            .as_ref()
            .map_or(Ok(Self::LISTEN), Self::loopback)
    }

    /// What is wrong with it.
    pub(super) fn contradiction(&self) -> Option<String> {
        let interval = self.every.map_or(Ok(Self::EVERY), Self::interval);
        self.address().err().or(interval.err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> FleetPage {
        toml::from_str(&format!("host = \"laptop\"\n{text}")).unwrap()
    }

    #[test]
    fn fleet_page_listens_on_loopback_only() {
        for (listen, address) in [
            ("", Some("127.0.0.1:1340")),
            ("listen = \"127.0.0.1:0\"", Some("127.0.0.1:0")),
            ("listen = \"[::1]:1340\"", Some("[::1]:1340")),
            ("listen = \"[::ffff:127.0.0.1]:1\"", Some("127.0.0.1:1")),
            ("listen = \"0.0.0.0:1340\"", None),
            ("listen = \"[::]:1340\"", None),
            ("listen = \"192.0.2.1:1340\"", None),
        ] {
            let page = page(listen);
            let expected = address.map(|address| address.parse().unwrap());
            assert_eq!(page.address().ok(), expected, "{listen}");
            assert_eq!(
                page.contradiction().is_some(),
                address.is_none(),
                "{listen}"
            );
        }
        let error = page("listen = \"0.0.0.0:99\"").contradiction().unwrap();
        assert!(
            error.contains("0.0.0.0:99") && error.contains("ssh -L 99:127.0.0.1:99"),
            "{error}"
        );
    }

    #[test]
    fn fleet_page_has_limits_on_its_interval() {
        assert_eq!(page("every = \"1m\"").contradiction(), None);
        for every in ["500ms", "6m"] {
            let error = page(&format!("every = \"{every}\""))
                .contradiction()
                .unwrap();
            assert!(
                error.contains(every) && error.contains("\"30s\""),
                "{error}"
            );
        }
    }
}
