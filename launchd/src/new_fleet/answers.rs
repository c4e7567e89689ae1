//! The answers to the questions of `init`: a host, a program, a channel for alerts.

use std::net::IpAddr;
use std::str::FromStr;

use sanctum_config::{HostAddress, Label};

use super::receiver::AlertReceiver;
use super::toml_text::printable;

/// A host and its address: `mini=192.0.2.25`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewHost {
    /// Its name in fleet.toml.
    pub(crate) name: Label,
    /// Its address, as other hosts reach it.
    pub(crate) address: String,
}

/// A program and its arguments. Words are separated by spaces; there are no quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandbyProgram(pub(super) Vec<String>);

/// How alerts are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AlertChannel {
    /// As notifications on the watchdog's own screen.
    Desktop,
    /// To the watchdog's log.
    Log,
    /// To an HTTP receiver.
    Receiver(AlertReceiver),
}

impl FromStr for NewHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or_else(|| {
            format!("`{text}` is not NAME=ADDRESS; write a name and the address that other hosts use: mini=192.0.2.25")
        })?;
        let name = name.trim().parse().map_err(|error| format!("{error}"))?;
        let address = address.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let ip = address.parse::<HostAddress>();
        let is_name = !address.is_empty() && address.chars().all(plain);
        if ip.is_err() && !is_name {
            return Err(format!(
                "`{address}` is not an address; write an IP address or a host name, without a port: {name}=192.0.2.25"
            ));
        }
        if address
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
        {
            return Err(format!(
                "`{address}` means every address of a host, and other hosts cannot connect to it; write one of them: \
                 {name}=192.0.2.25"
            ));
        }
        Ok(Self {
            name,
            address: address.to_owned(),
        })
    }
}

impl NewHost {
    /// Whether it can watch `serving` from outside.
    ///
    /// # Errors
    /// If it is the same host, or one of them cannot be reached from the other.
    pub(crate) fn watches(&self, serving: &Self) -> Result<(), String> {
        if self.name == serving.name || self.address == serving.address {
            return Err(format!(
                "`{}` both serves and watches from outside; name another host, or none",
                serving.name
            ));
        }
        for host in [self, serving] {
            let ip = host.address.parse::<IpAddr>();
            if host.address == "localhost" || ip.is_ok_and(|ip| ip.is_loopback()) {
                return Err(format!(
                    "`{}` is reached by {} itself only; write the address that the other host uses",
                    host.address, host.name
                ));
            }
        }
        Ok(())
    }
}

impl FromStr for AlertChannel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "desktop" => Ok(Self::Desktop),
            "log" => Ok(Self::Log),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                AlertReceiver::at(url).map(Self::Receiver)
            }
            // It may be a secret.
            address if address.contains('/') => Err(
                "the address of a receiver begins with https:// or http://; write all of it: https://192.0.2.7/notify"
                    .to_owned(),
            ),
            other => Err(format!(
                "`{other}` is not a channel; write desktop, log, or the URL of a receiver: https://192.0.2.7/notify"
            )),
        }
    }
}

impl FromStr for StandbyProgram {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(['\'', '"', '\\']) {
            return Err(format!(
                "`{text}` has quotes, and words are separated by spaces only; write a script with these arguments, and name it here"
            ));
        }
        let words: Vec<String> = printable(text)?
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        match words.first() {
            Some(program) if program.starts_with('/') || program.starts_with("~/") => {
                Ok(Self(words))
            }
            _ => Err(format!(
                "`{text}` does not begin with the absolute path of a program; write one that begins with / or ~/, because \
                 launchd has another PATH"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_that_makes_no_fleet_is_refused_at_once() {
        for host in [
            "mini=1.2.3.4:99",
            "mini=0.0.0.0",
            "mini=::",
            "mini=",
            "mini=a b",
        ] {
            assert!(host.parse::<NewHost>().is_err(), "{host}");
        }
        "mini=fd7a::55".parse::<NewHost>().unwrap();
        "http://127.0.0.1:4077/notify"
            .parse::<AlertChannel>()
            .unwrap();
        assert!("/bin/sh -c \"echo a\"".parse::<StandbyProgram>().is_err());
        let mini: NewHost = "mini=127.0.0.1".parse().unwrap();
        let laptop: NewHost = "laptop=192.0.2.55".parse().unwrap();
        let error = laptop.watches(&mini).unwrap_err();
        assert!(error.contains("mini itself only"), "{error}");
    }
}
