//! The whole of `fleet.toml`: reading it, and checking that its sections fit together.

mod daemons;
mod role;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::near::did_you_mean;
use crate::{FleetError, Label, Rotation, TildePath, files};

pub use daemons::{Agent, Channel, Watch};
pub use role::Role;
pub use server::{Audit, Auth, Backend, KvCache, Limits, Loopback, Memory, Model, Server, Tls};

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
    /// `[agents.NAME]`: programs of others that are run as agents.
    #[serde(default)]
    pub agents: BTreeMap<Label, Agent>,
    /// `[watch.NAME]`: one watchdog each.
    #[serde(default)]
    pub watch: BTreeMap<Label, Watch>,
    /// `[alerts.NAME]`: one alert channel each.
    #[serde(default)]
    pub alerts: BTreeMap<Label, Channel>,
}

/// `[fleet]`: what all hosts share.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct General {
    /// Agent labels are `com.<name>.<agent>`.
    pub name: Label,
    /// The folder that holds `bin/ releases/ state/ logs/ certs/ secrets/` on every host.
    pub home: TildePath,
    /// How many releases are kept under `releases/`, the one that runs among them. The one before it is kept in any
    /// case: it is where a rollback goes.
    pub retention: NonZeroUsize,
}

impl Default for General {
    fn default() -> Self {
        let known = "these defaults follow their own rules";
        Self {
            name: "sanctum".parse().expect(known),
            home: "~/.sanctum".parse().expect(known),
            retention: NonZeroUsize::new(3).expect(known),
        }
    }
}

/// `[logs]`: how large the log of each program may grow. Together its files have at most `max_mb` times `keep + 1` MiB.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// A log of so many MiB is rotated.
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
    /// In bytes.
    pub fn rotation(&self) -> Rotation {
        const MIB: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();
        Rotation {
            max_bytes: self.max_mb.saturating_mul(MIB),
            keep: self.keep,
        }
    }
}

/// `[hosts.NAME]`: a machine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The name or address under which other hosts reach it.
    pub address: String,
    /// The destination for `ssh` through which verify and off-box drift reach it.
    pub ssh: Option<String>,
    /// What runs there: names of servers, agents and watchdogs.
    #[serde(default)]
    pub agents: Vec<Label>,
}

impl Host {
    /// What in this section alone cannot be meant: others reach it by URL, and a URL carries no zone.
    fn contradiction(&self) -> Option<String> {
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

impl Fleet {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, FleetError> {
        /// Thousands of agents; a larger file is a mistake.
        const LARGEST: u64 = 4 << 20;
        let text = files::read_text(path, LARGEST).map_err(|source| FleetError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file; `path` is for the messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FleetError> {
        let fleet: Self = toml::from_str(text)
            .map_err(|error| FleetError::from_toml(path.to_owned(), text, &error))?;
        fleet.check(path)?;
        Ok(fleet)
    }

    /// Every name that refers to another section is found there, and nothing that must be unique is there twice.
    fn check(&self, path: &Path) -> Result<(), FleetError> {
        let refer = Reference { path };
        let hosts: Vec<&Label> = self.hosts.keys().collect();
        let servers: Vec<&Label> = self.servers.keys().collect();
        let channels: Vec<&Label> = self.alerts.keys().collect();
        let runnable: Vec<&Label> = self
            .servers
            .keys()
            .chain(self.agents.keys())
            .chain(self.watch.keys())
            .collect();

        let mut seen = BTreeSet::new();
        if let Some(twice) = runnable.iter().find(|name| !seen.insert(**name)) {
            let message = format!(
                "the name `{twice}` is used for two of [servers], [agents] and [watch]; rename one of them"
            );
            return Err(refer.error(format!("servers, agents, watch: {twice}"), message));
        }
        for (name, host) in &self.hosts {
            if let Some(message) = host.contradiction() {
                return Err(refer.error(format!("hosts.{name}"), message));
            }
            for agent in &host.agents {
                let section = || format!("hosts.{name}");
                refer.find(
                    section,
                    "agents",
                    agent,
                    &runnable,
                    "servers, agents or watch",
                )?;
            }
        }
        for (name, server) in &self.servers {
            let section = || format!("servers.{name}");
            refer.find(section, "host", &server.host, &hosts, "hosts")?;
            if let Some(message) = server.contradiction() {
                return Err(refer.error(section(), message));
            }
        }
        for (name, agent) in &self.agents {
            let section = || format!("agents.{name}");
            refer.find(section, "host", &agent.host, &hosts, "hosts")?;
            if let Some(server) = &agent.standby_for {
                refer.find(section, "standby_for", server, &servers, "servers")?;
            }
            if let Some(message) = self
                .cannot_stand_by(agent)
                .or_else(|| agent.contradiction())
            {
                return Err(refer.error(section(), message));
            }
        }
        for (name, watch) in &self.watch {
            let section = || format!("watch.{name}");
            if let Some(target) = &watch.target {
                refer.find(section, "target", target, &servers, "servers")?;
            }
            for channel in &watch.alert {
                refer.find(section, "alert", channel, &channels, "alerts")?;
            }
            if let Some(message) = watch.contradiction() {
                return Err(refer.error(section(), message));
            }
        }
        self.places(&refer)
    }

    /// Every agent is on one host, its own, and what is deployed with fleet.toml lies in or under its folder.
    fn places(&self, refer: &Reference) -> Result<(), FleetError> {
        let mut placed: BTreeMap<&Label, &Label> = BTreeMap::new();
        for (name, host) in &self.hosts {
            let wrong = |message| Err(refer.error(format!("hosts.{name}"), message));
            for agent in &host.agents {
                if let Some(other) = placed.insert(agent, name) {
                    return wrong(format!(
                        "`{agent}` is an agent of `{other}` too; give each host a section of its own (a watchdog's \
                         second section says `check = ...`)"
                    ));
                }
                let own = match self.role(agent) {
                    Some(Role::Server(server)) => &server.host,
                    Some(Role::Agent(agent)) => &agent.host,
                    _ => name,
                };
                if own != name {
                    return wrong(format!(
                        "`{agent}` is listed here, and its own section says `host = \"{own}\"`; change one of them"
                    ));
                }
            }
            let upwards =
                |path: &PathBuf| path.components().any(|part| part == Component::ParentDir);
            if let Some(path) = self.companions(name).into_iter().find(upwards) {
                return wrong(format!(
                    "an agent here uses `{}`, which would be deployed outside of the fleet's home; put it beside \
                     fleet.toml or write a path that begins with / or ~/",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    fn cannot_stand_by(&self, agent: &Agent) -> Option<String> {
        let name = agent.standby_for.as_ref()?;
        let server = self.servers.get(name)?;
        (server.host != agent.host).then(|| {
            format!(
                "it stands by for `{name}`, which runs on `{}`; a standby agent takes its server's port and must be on \
                 the same host",
                server.host
            )
        })
    }
}

/// Looks up names that one section takes from another.
struct Reference<'a> {
    path: &'a Path,
}

impl Reference<'_> {
    fn find(
        &self,
        section: impl Fn() -> String,
        key: &str,
        name: &Label,
        known: &[&Label],
        home: &str,
    ) -> Result<(), FleetError> {
        if known.contains(&name) {
            return Ok(());
        }
        let near = did_you_mean(name.as_str(), known.iter().map(|label| label.as_str()));
        let message =
            format!("`{key}` names `{name}`, and there is no such section in {home}{near}");
        Err(self.error(section(), message))
    }

    fn error(&self, section: String, message: String) -> FleetError {
        let path = PathBuf::from(self.path);
        FleetError::Section {
            path,
            section,
            message,
        }
    }
}

#[cfg(test)]
mod tests;
