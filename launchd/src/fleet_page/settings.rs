//! Where a fleet page listens, and how often it is refreshed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sanctum_config::fleet::FleetPage;
use sanctum_config::{Fleet, Label, did_you_mean_or_names};

use crate::Error;
use crate::args::PageOptions;

/// How long another host may take to answer: its servers are asked one after the other, with limits of their own.
pub(super) const OBSERVATION_LIMIT: Duration = Duration::from_secs(30);

/// The settings of a fleet page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageSettings {
    /// A loopback address.
    pub(crate) address: SocketAddr,
    /// The time between two observations of a host.
    pub(crate) every: Duration,
    /// Where log lines are written; none for standard error.
    pub(crate) log_file: Option<PathBuf>,
}

impl PageSettings {
    /// From the command line, and the section that it names. `address` is the one after `--serve`.
    ///
    /// # Errors
    /// If there is no such section, it belongs to another host than `here`, or there are two addresses.
    pub(crate) fn of(
        fleet: &Fleet,
        here: Option<&Label>,
        address: Option<SocketAddr>,
        options: &PageOptions,
    ) -> Result<Self, Error> {
        let log_file = options.log_file.clone();
        let Some(name) = &options.page else {
            return Ok(Self {
                address: address.unwrap_or(FleetPage::LISTEN),
                every: options.every.unwrap_or(FleetPage::EVERY),
                log_file,
            });
        };
        let section = fleet.pages.get(name).ok_or_else(|| {
            let names = fleet.pages.keys().map(Label::as_str);
            let near = did_you_mean_or_names(name.as_str(), names);
            Error::refused(format!("fleet.toml has no [pages.{name}]{near}"))
        })?;
        if let Some(address) = address {
            return Err(Error::refused(format!(
                "--serve {address} and --page {name} are two addresses; leave one out (--page takes that of [pages.{name}])"
            )));
        }
        if let Some(here) = here.filter(|here| **here != section.host) {
            return Err(Error::refused(format!(
                "[pages.{name}] is served by {}, and this is {here}; run the command there, or leave out --page",
                section.host
            )));
        }
        Ok(Self {
            address: section.address().map_err(Error::refused)?,
            every: section.every.unwrap_or(FleetPage::EVERY),
            log_file,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn settings_are_those_of_the_section_or_of_the_command_line() {
        let text = "[hosts.laptop]\naddress = \"a\"\n[pages.p]\nhost = \"laptop\"\nlisten = \"127.0.0.1:8\"\nevery = \"5s\"\n";
        let fleet = Fleet::parse(text, Path::new("fleet.toml")).unwrap();
        let label = |name: &str| name.parse::<Label>().unwrap();
        let of = |here: &str, address: Option<&str>, page: Option<&str>| {
            let options = PageOptions {
                every: None,
                page: page.map(label),
                log_file: None,
            };
            let address = address.map(|address| address.parse().unwrap());
            PageSettings::of(&fleet, Some(&label(here)), address, &options)
                .map(|settings| (settings.address.to_string(), settings.every.as_secs()))
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            of("laptop", None, Some("p")),
            Ok(("127.0.0.1:8".to_owned(), 5))
        );
        assert_eq!(
            of("laptop", None, None),
            Ok(("127.0.0.1:1340".to_owned(), 30))
        );
        assert_eq!(
            of("mini", Some("[::1]:9"), None),
            Ok(("[::1]:9".to_owned(), 30))
        );
        for (error, words) in [
            (of("laptop", None, Some("q")), "no [pages.q]"),
            (
                of("mini", None, Some("p")),
                "served by laptop, and this is mini",
            ),
            (
                of("laptop", Some("127.0.0.1:7"), Some("p")),
                "two addresses",
            ),
        ] {
            let error = error.unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
