//! The sections of fleet.toml, except those of servers, agents and watchdogs.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::num::{NonZeroU64, NonZeroUsize};

use serde::Deserialize;

use super::alerts::ChannelSection;
use super::daemons::{Agent, Watch};
use super::page::FleetPage;
use super::server::Server;
use crate::{Label, Rotation, TildePath};

/// A fleet: its hosts, and what runs on each of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// `[fleet]`.
    #[serde(default)]
    pub fleet: General,
    /// `[logs]`.
    #[serde(default)]
    pub logs: Logs,
    /// `[hosts.NAME]`.
    #[serde(default)]
    pub hosts: BTreeMap<Label, Host>,
    /// `[servers.NAME]`: one `sanctum-server` instance each.
    #[serde(default)]
    pub servers: BTreeMap<Label, Server>,
    /// `[agents.NAME]`: foreign programs that run as agents.
    #[serde(default)]
    pub agents: BTreeMap<Label, Agent>,
    /// `[watch.NAME]`: one watchdog each.
    #[serde(default)]
    pub watch: BTreeMap<Label, Watch>,
    /// `[pages.NAME]`: one fleet page each.
    #[serde(default)]
    pub pages: BTreeMap<Label, FleetPage>,
    /// `[alerts.NAME]`: one alert channel each.
    #[serde(default)]
    pub alerts: BTreeMap<Label, ChannelSection>,
}

/// `[fleet]`: what all hosts share.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct General {
    /// Agent labels are `com.<name>.<agent>`.
    pub name: Label,
    /// The folder that holds `bin/ releases/ state/ logs/ certs/ secrets/` on every host.
    pub home: TildePath,
    /// How many releases are kept under `releases/`, the active one among them. The one before it is always kept, for a
    /// rollback.
    pub retention: NonZeroUsize,
}

impl Default for General {
    fn default() -> Self {
        let known = "the defaults are valid";
        Self {
            name: "sanctum".parse().expect(known),
            home: "~/.sanctum".parse().expect(known),
            retention: NonZeroUsize::new(3).expect(known),
        }
    }
}

/// `[logs]`: the rotation of each program's log. Its files have at most `max_mb` times `keep + 1` MiB together.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// The size in MiB at which a log is rotated.
    pub max_mb: NonZeroU64,
    /// Rotated files that are kept.
    pub keep: usize,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            max_mb: NonZeroU64::new(16).expect("16 is not 0"),
            keep: 4,
        }
    }
}

impl Logs {
    /// The rotation, in bytes.
    pub fn rotation(&self) -> Rotation {
        const MIB: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();
        Rotation {
            max_bytes: self.max_mb.saturating_mul(MIB),
            keep: self.keep,
        }
    }
}

/// `[hosts.NAME]`: a host.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The name or address under which other hosts reach it.
    pub address: String,
    /// The destination for `ssh` through which verify and off-box drift reach it.
    pub ssh: Option<String>,
    /// The servers, agents and watchdogs that run there.
    #[serde(default)]
    pub agents: Vec<Label>,
}

impl Host {
    /// A contradiction within this section: other hosts use the address in a URL, which carries no zone.
    pub(super) fn contradiction(&self) -> Option<String> {
        if !is_address(&self.address) {
            return Some(format!(
                "`address` is {:?}, which is neither a host name nor an IP address; write one without a scheme and a port, \
                 such as mini.local or 192.0.2.25",
                self.address
            ));
        }
        let is_option = |ssh: &&String| {
            ssh.is_empty()
                || ssh.starts_with('-')
                || ssh.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        if let Some(ssh) = self.ssh.as_ref().filter(is_option) {
            return Some(format!(
                "`ssh` is {ssh:?}, which is no destination of ssh; write one such as \"mini\" or \"ada@192.0.2.25\", or remove \
                 the key"
            ));
        }
        let (ip, _) = self.address.split_once('%').unwrap_or((&self.address, ""));
        let ip: Ipv6Addr = ip.parse().ok()?;
        ip.is_unicast_link_local().then(|| {
            format!(
                "`address` is the link-local address {}, which other machines cannot use in a URL; write the machine's \
                 name (such as mini.local) or another of its addresses",
                self.address
            )
        })
    }
}

/// Whether a text is a host name or an IP address; an IPv6 address may have a zone.
fn is_address(text: &str) -> bool {
    let (ip, zone) = text.split_once('%').unwrap_or((text, "0"));
    if ip.parse::<Ipv6Addr>().is_ok() {
        return !zone.is_empty() && zone.chars().all(|c| c.is_ascii_alphanumeric());
    }
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(is_plain) && !text.starts_with(['-', '.'])
}
